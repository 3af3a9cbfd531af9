//! Conversions: types, errors, rules, and what becomes of half of one.

use std::io::{self, Cursor, SeekFrom};

use smidgen_runtime::format::writer::pack_matrix;
use smidgen_runtime::quant::bf16_to_f32;
use smidgen_runtime::tensor::{Matrix, Weights};

use super::*;
use crate::test_models::{Random, gpt2, llama, random};
use crate::{Checkpoint, ModelFile, TensorSource, TokenizerChoice};

const TYPES: [DType; 4] = [DType::F32, DType::F16, DType::Q8, DType::Q4];

/// Bytes at a multiple of 64.
fn aligned(bytes: &[u8], memory: &mut Vec<u8>) -> core::ops::Range<usize> {
    memory.clear();
    memory.resize(bytes.len() + 64, 0);
    let at = memory.as_ptr().align_offset(64);
    memory[at..at + bytes.len()].copy_from_slice(bytes);
    at..at + bytes.len()
}

/// What one quant of a number's group is worth, from the planes themselves.
fn step(matrix: &Matrix<'_>, row: usize, col: usize) -> f32 {
    let (Weights::Q8(planes) | Weights::Q4(planes)) = matrix.weights else { return 0.0 };
    let multiplier = planes.multipliers[(row / 4 * planes.groups() + col / 32) * 4 + row % 4];
    let scale = planes.scales[(row / 4 * planes.blocks() + col / 256) * 4 + row % 4];
    f32::from(multiplier) * bf16_to_f32(scale)
}

/// For any shape, padded or not: what the runtime reads is what was packed, within half a step
/// where nothing clips, and never further off than the part that may clip.
#[test]
fn packed_numbers_come_back_within_their_bounds() {
    let mut random = Random(20);
    for case in 0..60 {
        let (rows, cols) = (1 + random.below(9) as usize, 1 + random.below(600) as usize);
        let spread = 10_f32.powi(random.below(9) as i32 - 6);
        let values: Vec<f32> = (0..rows * cols).map(|_| random.normal() * spread).collect();
        for dtype in TYPES {
            let mut bytes = Vec::new();
            let loss = pack_matrix(dtype, rows, cols, &values, None, &mut bytes);
            let mut memory = Vec::new();
            let range = aligned(&bytes, &mut memory);
            let matrix = Matrix::new(dtype, rows, cols, &memory[range]).unwrap();
            let mut read = vec![0.0; cols];
            let mut squared = 0.0;
            for row in 0..rows {
                matrix.row(row, &mut read);
                for col in 0..cols {
                    let (value, back) = (values[row * cols + col], read[col]);
                    let error = (value - back).abs();
                    squared += f64::from(value - back).powi(2);
                    let step = step(&matrix, row, col);
                    let (most, least_part) = match dtype {
                        DType::F32 => (0.0, 1.0),
                        // Eleven bits, or half the smallest subnormal.
                        DType::F16 => ((value.abs() / 2048.0).max(2_f32.powi(-25)), 1.0),
                        DType::Q8 => (step * 0.501, 127.0),
                        _ => (step * 0.501, 7.0),
                    };
                    let clips = value.abs() > step * least_part && dtype.is_quantized();
                    // The search takes at most 3/8 (Q4) or 1/32 (Q8) off the step that clips nothing,
                    // plus what rounding multipliers to integers took.
                    let clipped = if dtype == DType::Q4 { 0.45 } else { 0.05 };
                    let bound = if clips { clipped * value.abs() } else { most };
                    assert!(
                        error <= bound * 1.0001,
                        "case {case} {dtype:?} [{row}, {col}]: {value} became {back}"
                    );
                }
            }
            assert!((loss.squared_error - squared).abs() <= 1e-6 * squared, "{dtype:?} {loss:?} {squared}");
            let relative = loss.relative();
            let wanted = match dtype {
                DType::F32 => 0.0..=0.0,
                DType::F16 => 0.0..=0.05, // subnormals
                DType::Q8 => 0.0..=0.008,
                _ => 0.0..=0.13,
            };
            assert!(wanted.contains(&relative), "{dtype:?} of {rows}×{cols}, spread {spread}: {relative}");
        }
    }
}

#[test]
fn slabs_give_the_bytes_of_the_whole() {
    let mut random = Random(21);
    for (rows, cols) in [(1, 5), (4, 32), (13, 300), (64, 33)] {
        let values: Vec<f32> = (0..rows * cols).map(|_| random.normal()).collect();
        for dtype in TYPES {
            let mut whole = Vec::new();
            pack_matrix(dtype, rows, cols, &values, None, &mut whole);
            for slab_rows in [4, 8, 20] {
                let mut bytes = vec![0; whole.len()];
                for mut slab in slabs(dtype, rows, cols, slab_rows, &mut bytes) {
                    let rows = slab.rows();
                    slab.pack(&values[rows.start * cols..rows.end * cols], None);
                }
                assert!(bytes == whole, "{dtype:?} {rows}×{cols} by {slab_rows}");
            }
        }
    }
}

fn convert_to_temp(checkpoint: &Checkpoint, options: &ConvertOptions) -> (tempfile::TempDir, ConvertReport) {
    let directory = tempfile::tempdir().unwrap();
    let report = convert(checkpoint, &directory.path().join("model.smidgen"), options, |_| ()).unwrap();
    (directory, report)
}

#[test]
fn f32_files_hold_the_checkpoint_to_the_bit_and_open_as_one() {
    for config in [llama(), gpt2()] {
        let mut checkpoint = random(config, &[Role::Head, Role::QBias, Role::OBias], 22);
        checkpoint.chat_template = "{{ messages }}".into();
        checkpoint.extra = r#"{"steps": 3}"#.into();
        let (directory, report) = convert_to_temp(&checkpoint, &ConvertOptions::new(DType::F32));
        let path = directory.path().join("model.smidgen");
        let back = crate::open(&path, &TokenizerChoice::Found).unwrap();
        assert_eq!(back.config, checkpoint.config);
        assert_eq!((&back.name, &back.extra), (&checkpoint.name, &checkpoint.extra));
        assert_eq!(back.chat_template, checkpoint.chat_template);
        for (&(layer, role), tensor) in &checkpoint.tensors {
            assert_eq!(back.read(layer, role).unwrap(), tensor.read(), "{}", role.name());
        }
        assert_eq!(report.relative_error, 0.0);
        assert_eq!(report.parameters, checkpoint.parameters());
        assert_eq!(report.file_bytes, std::fs::metadata(&path).unwrap().len());
        assert_eq!(ModelFile::open(&path).unwrap().load().unwrap().kv_type(), KvType::F32);
    }
}

#[test]
fn a_quantized_file_converted_again_to_its_type_is_nearly_the_same() {
    let checkpoint = random(llama(), &[], 23);
    let (directory, first) = convert_to_temp(&checkpoint, &ConvertOptions::new(DType::Q8));
    let back = crate::open(&directory.path().join("model.smidgen"), &TokenizerChoice::Found).unwrap();
    let (_, second) = convert_to_temp(&back, &ConvertOptions::new(DType::Q8));
    assert!(first.relative_error > 0.001 && first.relative_error < 0.01, "{}", first.relative_error);
    assert!(second.relative_error < first.relative_error / 2.0, "{}", second.relative_error);
}

#[test]
fn types_follow_the_rules() {
    let mut options = ConvertOptions::new(DType::Q4);
    assert_eq!(options.type_of(Role::Embedding, 0), DType::Q8);
    assert_eq!(options.type_of(Role::Head, 0), DType::Q8);
    assert_eq!(options.type_of(Role::Down, 1), DType::Q4);
    assert_eq!(options.type_of(Role::FinalNorm, 0), DType::F32);
    assert_eq!("embed=q8".parse::<KeepRule>().unwrap(), "embedding=q8".parse().unwrap());
    for rule in ["embedding=q4", "down=f16", "down.1=q8"] {
        options.keep.push(rule.parse().unwrap());
    }
    assert_eq!(options.type_of(Role::Embedding, 0), DType::Q4);
    assert_eq!(options.type_of(Role::Down, 0), DType::F16);
    assert_eq!(options.type_of(Role::Down, 1), DType::Q8);
    let (directory, _) = convert_to_temp(&random(llama(), &[], 24), &options);
    let file = ModelFile::open(&directory.path().join("model.smidgen")).unwrap();
    let model = file.load().unwrap();
    for (layer, role, matrix) in model.tensors() {
        assert_eq!(matrix.dtype(), options.type_of(role, layer), "{} of {layer}", role.name());
    }
    assert_eq!(model.kv_type(), KvType::Q8);
}

#[test]
fn rules_that_say_nothing_are_refused() {
    for (rule, wanted) in [
        ("embedding", "expected NAME=TYPE"),
        ("wte=q8", "\"wte\" is none of the matrices embedding, position_embedding, head, q, k"),
        ("attn_norm=f16", "none of the matrices"),
        ("embedding=q5", "\"q5\" is none of f32, f16, q8, q4"),
        ("down.x=q8", "\"x\" is no layer number"),
        ("embedding.0=q8", "embedding belongs to no layer"),
    ] {
        let message = rule.parse::<KeepRule>().unwrap_err().to_string();
        assert!(message.contains(wanted), "{rule} gave {message}");
    }
    for (rule, wanted) in [
        ("head=f16", "--keep head=f16: the model has no such tensor (its head is the embedding"),
        ("down.7=q8", "no such tensor"),
    ] {
        let options = ConvertOptions { keep: vec![rule.parse().unwrap()], ..ConvertOptions::new(DType::Q8) };
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.smidgen");
        let message = convert(&random(llama(), &[], 25), &path, &options, |_| ()).unwrap_err().to_string();
        assert!(message.contains(wanted), "{message}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}

#[test]
fn a_shorter_context_cuts_learned_positions() {
    let checkpoint = random(gpt2(), &[], 26);
    let options = ConvertOptions { context: Some(5), ..ConvertOptions::new(DType::F32) };
    let (directory, report) = convert_to_temp(&checkpoint, &options);
    assert_eq!(report.context, 5);
    let back = crate::open(&directory.path().join("model.smidgen"), &TokenizerChoice::Found).unwrap();
    let positions = checkpoint.read(0, Role::PositionEmbedding).unwrap();
    assert_eq!(back.read(0, Role::PositionEmbedding).unwrap(), positions[..5 * 12]);
    for context in [0, 17] {
        let options = ConvertOptions { context: Some(context), ..options.clone() };
        let error = write(&checkpoint, &mut Cursor::new(Vec::new()), Path::new("out"), &options, |_| ());
        assert!(error.unwrap_err().to_string().contains("allows 1 to 16"));
    }
}

#[test]
fn weights_that_are_no_numbers_are_named() {
    let write_with = |dtype, value: f32| {
        let mut checkpoint = random(llama(), &[], 27);
        let mut values = checkpoint.read(1, Role::Down).unwrap();
        values[3 * 35 + 7] = value;
        checkpoint.tensors.insert((1, Role::Down), TensorSource::owned(12, 35, values));
        let mut sink = Cursor::new(Vec::new());
        write(&checkpoint, &mut sink, Path::new("out"), &ConvertOptions::new(dtype), |_| ())
    };
    for dtype in TYPES {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let message = write_with(dtype, value).unwrap_err().to_string();
            let wanted = format!("tensor down of layer 1, row 3, column 7 is {value}: not a finite number");
            assert_eq!(message, wanted);
        }
    }
    assert!(write_with(DType::F16, 65_519.0).is_ok(), "rounds to 65504");
    let message = write_with(DType::F16, 65_520.0).unwrap_err().to_string();
    assert!(message.contains("is 65520: too large for f16"), "{message}");
}

#[test]
fn checkpoints_that_do_not_fit_together_are_refused() {
    let good = random(llama(), &[], 28);
    let refused = |change: &dyn Fn(&mut Checkpoint)| {
        let mut checkpoint = good.clone();
        change(&mut checkpoint);
        checkpoint.check().unwrap_err().to_string()
    };
    let small = || TensorSource::owned(1, 1, vec![0.0]);
    assert!(refused(&|c| drop(c.tensors.remove(&(0, Role::Gate)))).contains("gate is missing"));
    assert!(refused(&|c| drop(c.tensors.remove(&(1, Role::Gate)))).contains("no tensor gate in layer 1"));
    assert!(refused(&|c| drop(c.tensors.insert((0, Role::AttnNormBias), small()))).contains("has no place"));
    assert!(
        refused(&|c| drop(c.tensors.insert((1, Role::Gate), small())))
            .contains("gate of layer 1 is (1, 1), expected (35, 12)")
    );
    assert!(
        refused(&|c| drop(c.tensors.insert((2, Role::Gate), c.tensors[&(0, Role::Gate)].clone())))
            .contains("does not exist")
    );
    let bias = || TensorSource::owned(1, 12, vec![0.0; 12]);
    assert!(
        refused(&|c| drop(c.tensors.insert((1, Role::OBias), bias())))
            .contains("no tensor o_bias in layer 0")
    );
    assert!(refused(&|c| c.config.dim = 0).contains("dim is 0"));
}

/// A disk that is full after some bytes.
struct Full {
    inner: Cursor<Vec<u8>>,
    left: usize,
}

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let n = self.inner.write(&bytes[..bytes.len().min(self.left)])?;
        self.left -= n;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Seek for Full {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.inner.seek(position)
    }
}

#[test]
fn a_full_disk_is_an_error_wherever_it_fills_up() {
    let checkpoint = random(llama(), &[], 29);
    let options = ConvertOptions::new(DType::Q8);
    let mut whole = Cursor::new(Vec::new());
    let report = write(&checkpoint, &mut whole, Path::new("out"), &options, |_| ()).unwrap();
    let length = whole.get_ref().len();
    assert_eq!(report.file_bytes, length as u64);
    // The prefix is written twice, the second time with the checksum.
    let needed = length + 128;
    for left in (0..needed).step_by(97).chain([needed - 1]) {
        let mut sink = Full { inner: Cursor::new(Vec::new()), left };
        let error = write(&checkpoint, &mut sink, Path::new("out/model"), &options, |_| ()).unwrap_err();
        assert!(
            matches!(&error, Error::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull),
            "{error}"
        );
        assert!(error.to_string().contains("out/model"));
    }
    let mut sink = Full { inner: Cursor::new(Vec::new()), left: needed };
    write(&checkpoint, &mut sink, Path::new("out"), &options, |_| ()).unwrap();
    assert!(sink.inner.get_ref() == whole.get_ref());
}

#[test]
fn a_conversion_that_fails_leaves_what_was_there() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.smidgen");
    let options = ConvertOptions::new(DType::Q8);
    convert(&random(llama(), &[], 30), &path, &options, |_| ()).unwrap();
    let before = std::fs::read(&path).unwrap();
    let mut bad = random(llama(), &[], 31);
    bad.tensors.insert((1, Role::Down), TensorSource::owned(12, 35, vec![f32::NAN; 12 * 35]));
    assert!(convert(&bad, &path, &options, |_| ()).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    // And one that succeeds takes its place; threads do not show in the bytes.
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    one.install(|| convert(&random(llama(), &[], 30), &path, &options, |_| ()).unwrap());
    assert_eq!(std::fs::read(&path).unwrap(), before);
}
