//! Files written and read back, those that others wrote, and damaged ones.

use std::path::{Path, PathBuf};

use smidgen_runtime::format::{Role, RopeScaling};

use super::*;
use crate::test_models::{assert_same, byte_tokenizer, gpt2, llama, random, survive_damage};
use crate::{Checkpoint, TensorSource, TokenizerChoice};

const QKV: [Role; 3] = [Role::QBias, Role::KBias, Role::VBias];

fn read(path: &Path) -> Result<Checkpoint, crate::Error> {
    open(path, &TokenizerChoice::Found)
}

fn stretched(mut checkpoint: Checkpoint, theta: f32, scaling: RopeScaling) -> Checkpoint {
    (checkpoint.rope_theta, checkpoint.rope_scaling) = (theta, scaling);
    let frequencies = crate::frequencies(theta, scaling, 6);
    checkpoint.tensors.insert((0, Role::RopeFrequencies), TensorSource::owned(1, 3, frequencies));
    checkpoint
}

#[test]
fn what_is_written_is_read_back_to_the_bit() {
    let directory = tempfile::tempdir().unwrap();
    let llama3 =
        RopeScaling::Llama3 { factor: 4.0, low_freq_factor: 1.5, high_freq_factor: 5.0, original_context: 8 };
    let larger = smidgen_runtime::Config { vocab_size: 260, ..llama() };
    let gpt2_biases: Vec<Role> = (0..64)
        .filter_map(Role::from_u8)
        .filter(|role| {
            let need = role.need(smidgen_runtime::Architecture::Gpt2);
            role.is_vector() && need != smidgen_runtime::format::Need::MustNot
        })
        .collect();
    let mut models = vec![
        random(llama(), &[], 1),
        random(llama(), &[Role::Head], 2),
        random(llama(), &[&QKV[..], &[Role::OBias]].concat(), 3),
        random(llama(), &QKV, 4),
        random(smidgen_runtime::Config { n_heads: 2, ..llama() }, &QKV, 4),
        random(llama(), &[Role::QNorm, Role::KNorm, Role::Head], 5),
        stretched(random(llama(), &[], 6), 500.0, llama3),
        stretched(random(llama(), &[], 7), 100.0, RopeScaling::Linear { factor: 2.5 }),
        random(gpt2(), &gpt2_biases, 8),
        random(larger, &[Role::Head], 9),
    ];
    models[9].tokenizer = Some(byte_tokenizer());
    models[9].chat_template = "{{ messages }}".into();
    for (i, model) in models.iter().enumerate() {
        let path = directory.path().join(format!("{i}.gguf"));
        write(&path, model, GgufOptions::default()).unwrap();
        let back = read(&path).unwrap();
        assert_same(model, &back);
        assert_eq!((&back.name, &back.chat_template), (&model.name, &model.chat_template));
    }
    // Without biases a GPT-2 gets zeros there, as llama.cpp wants them.
    let bare = random(gpt2(), &[Role::Head], 10);
    let path = directory.path().join("bare.gguf");
    write(&path, &bare, GgufOptions::default()).unwrap();
    let back = read(&path).unwrap();
    assert_eq!(back.read(1, Role::QBias).unwrap(), vec![0.0; 12]);
    assert_eq!(back.read(1, Role::K).unwrap(), bare.read(1, Role::K).unwrap());
}

/// The permutation that llama.cpp's converter applies: reshape(heads, 2, d / 2), axes 1 and 2 swapped.
#[test]
fn only_llama_files_have_their_rotary_rows_in_pairs() {
    let directory = tempfile::tempdir().unwrap();
    // Queries as wide as the model are qwen2's, wider ones with biases go as a llama.
    let wide = llama();
    let square = smidgen_runtime::Config { n_heads: 2, ..wide };
    for (config, extra, permuted) in [
        (wide, &[][..], true),
        (square, &QKV[..], false),
        (wide, &QKV[..], true),
        (wide, &[Role::QNorm, Role::KNorm][..], false),
    ] {
        let model = random(config, extra, 11);
        let path = directory.path().join("model.gguf");
        write(&path, &model, GgufOptions::default()).unwrap();
        let file = file::File::open(&path).unwrap();
        let (heads, half, dim) = (config.n_heads as usize, 3, 12);
        let stored = file.tensor("blk.1.attn_q.weight", Some(heads * 2 * half), dim).unwrap().read();
        let ours = model.read(1, Role::Q).unwrap();
        for (head, h, i) in
            (0..heads).flat_map(|a| (0..2).flat_map(move |b| (0..half).map(move |c| (a, b, c))))
        {
            let from = (head * 2 + h) * half + i;
            let to = if permuted { (head * half + i) * 2 + h } else { from };
            assert_eq!(stored[to * dim..][..dim], ours[from * dim..][..dim]);
        }
    }
}

#[test]
fn smaller_types_lose_what_they_must() {
    let directory = tempfile::tempdir().unwrap();
    let config = smidgen_runtime::Config { dim: 64, ffn_dim: 96, ..llama() };
    let model = random(config, &[Role::Head], 12);
    for (dtype, most) in [(GgufType::F16, 5e-4), (GgufType::Q8_0, 8e-3)] {
        let path = directory.path().join("model.gguf");
        write(&path, &model, GgufOptions { dtype, without_tokenizer: false }).unwrap();
        let back = read(&path).unwrap();
        for (&(layer, role), tensor) in &model.tensors {
            let (a, b) = (tensor.read(), back.read(layer, role).unwrap());
            let largest = a.iter().fold(0.0_f32, |max, value| max.max(value.abs()));
            let error = a.iter().zip(&b).fold(0.0_f32, |max, (a, b)| max.max((a - b).abs())) / largest;
            assert!(
                if role.is_vector() { error == 0.0 } else { error > 0.0 && error < most },
                "{role:?}: {error}"
            );
        }
    }
}

#[test]
fn a_head_that_repeats_the_embedding_is_the_embedding() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    let mut model = random(llama(), &[], 13);
    let tied = model.clone();
    let embedding = model.tensors[&(0, Role::Embedding)].clone();
    model.tensors.insert((0, Role::Head), embedding);
    write(&path, &model, GgufOptions::default()).unwrap();
    let back = read(&path).unwrap();
    assert_same(&tied, &back);
    assert!(back.notes[0].contains("output.weight"), "{:?}", back.notes);
}

/// A file with one matrix of blocks among floats, or with the floats that these blocks are.
fn with_blocks(path: &Path, kind: GgmlType, blocks: bool) {
    let config = smidgen_runtime::Config {
        dim: 256,
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 64,
        ffn_dim: 256,
        ..llama()
    };
    let model = random(config, &[Role::Head], 15);
    write(path, &model, GgufOptions::default()).unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    let name = b"blk.1.ffn_gate.weight";
    let entry = bytes.windows(name.len()).position(|window| window == name).unwrap() + name.len();
    // Behind the name: the number of dimensions, both of them, type, offset.
    let offset = u64::from_le_bytes(bytes[entry + 24..entry + 32].try_into().unwrap());
    let file = file::File::open(path).unwrap();
    // The data's begin: the entry's tensor is found where its floats are.
    let first = model.read(1, Role::Gate).unwrap();
    assert_eq!(file.tensor("blk.1.ffn_gate.weight", Some(256), 256).unwrap().read(), first);
    let begin: Vec<u8> = first[..64].iter().flat_map(|value| value.to_le_bytes()).collect();
    let at = bytes.windows(begin.len()).position(|window| window == begin).unwrap();
    assert!(at as u64 > offset);
    let encoded: Vec<u8> = quants::tests::blocks_of(kind, 256 * 256 / kind.block());
    if blocks {
        bytes[entry + 20..entry + 24].copy_from_slice(&(kind as u32).to_le_bytes());
        bytes[at..at + encoded.len()].copy_from_slice(&encoded);
    } else {
        let floats = quants::tests::decode_all(kind, &encoded);
        let floats: Vec<u8> = floats.iter().flat_map(|value| value.to_le_bytes()).collect();
        bytes[at..at + floats.len()].copy_from_slice(&floats);
    }
    std::fs::write(path, bytes).unwrap();
}

/// Each type's blocks in a whole file are the numbers that they are by themselves, wherever they lie.
#[test]
fn every_type_of_blocks_is_read_from_a_file() {
    let directory = tempfile::tempdir().unwrap();
    use GgmlType::{Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
    for kind in [Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4K, Q5K, Q6K] {
        let [a, b] = [true, false].map(|blocks| {
            let path = directory.path().join(format!("{blocks}.gguf"));
            with_blocks(&path, kind, blocks);
            let mut checkpoint = read(&path).unwrap();
            if blocks {
                assert_eq!(checkpoint.tensors[&(1, Role::Gate)].stored_type(), kind.name());
            }
            checkpoint.name = "model".into();
            let out = directory.path().join("model.smidgen");
            let options = crate::ConvertOptions::new(smidgen_runtime::format::DType::F32);
            crate::convert(&checkpoint, &out, &options, |_| ()).unwrap();
            std::fs::read(out).unwrap()
        });
        assert!(a == b, "{}", kind.name());
    }
}

/// llama.cpp takes a factor without a type for a linear one, and its name of 2023 too.
#[test]
fn a_factor_without_a_type_is_linear() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    let model = stretched(random(llama(), &[], 7), 100.0, RopeScaling::Linear { factor: 2.5 });
    write(&path, &model, GgufOptions::default()).unwrap();
    let good = std::fs::read(&path).unwrap();
    let renamed = |from: &str, to: &str| {
        let at = good.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        let mut bytes = good.clone();
        // Another key of the same length, which nobody reads.
        bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
        std::fs::write(&path, bytes).unwrap();
        read(&path).unwrap().rope_scaling
    };
    let linear = RopeScaling::Linear { factor: 2.5 };
    assert_eq!(renamed("llama.rope.scaling.type", "llama.rope.scaling.typo"), linear);
    assert_eq!(renamed("llama.rope.scaling.factor", "llama.rope.scaling.fact_r"), RopeScaling::None);
    // The old name is two bytes shorter; a longer name of the model leaves the tensors where they are.
    let replaced = |bytes: &[u8], from: &[u8], to: &[u8]| {
        let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
        [&bytes[..at], to, &bytes[at + from.len()..]].concat()
    };
    let bytes = replaced(
        &good,
        b"\x19\0\0\0\0\0\0\0llama.rope.scaling.factor",
        b"\x17\0\0\0\0\0\0\0llama.rope.scale_linear",
    );
    let bytes = replaced(&bytes, b"\x04\0\0\0\0\0\0\0test", b"\x06\0\0\0\0\0\0\0tester");
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(read(&path).unwrap().rope_scaling, linear);
}

#[test]
fn damaged_files_never_panic() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    let mut model = random(smidgen_runtime::Config { vocab_size: 260, ..llama() }, &[Role::Head], 14);
    model.tokenizer = Some(byte_tokenizer());
    for dtype in [GgufType::F32, GgufType::Q8_0] {
        write(&path, &model, GgufOptions { dtype, without_tokenizer: false }).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let read = survive_damage("damaged.gguf", &bytes, 9000, 800, read);
        // Most damage hits a token's text or a number that may be anything.
        assert!((20..780).contains(&read), "{read}");
    }
}

#[test]
fn what_is_wrong_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    write(&path, &random(llama(), &[], 15), GgufOptions::default()).unwrap();
    let good = std::fs::read(&path).unwrap();
    let find = |text: &str| good.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        read(&path).expect_err("must be refused").to_string()
    };
    type Damage<'a> = &'a dyn Fn(&mut Vec<u8>);
    let cases: [(&str, Damage<'_>); 9] = [
        ("GGUF version 1 is not read", &|bytes| bytes[4] = 1),
        ("big-endian", &|bytes| bytes[4..8].copy_from_slice(&[0, 0, 0, 3])),
        ("claims 72057594037927936 tensors", &|bytes| {
            bytes[8..16].copy_from_slice(&(1_u64 << 56).to_le_bytes())
        }),
        ("`general.architecture` is \"llamb\"", &|bytes| bytes[find("llama") + 4] = b'b'),
        ("key `general.file_type` at byte", &|bytes| bytes[find("general.file_type") + 17] = 13),
        ("does not end in the file's", &|bytes| bytes.truncate(bytes.len() - 40)),
        ("`llama.embedding_length` is 0", &|bytes| bytes[find("llama.embedding_length") + 26] = 0),
        ("has type 10 (Q2_K)", &|bytes| {
            let at = find("blk.0.attn_norm.weight") + 22 + 4 + 8;
            bytes[at] = 10;
        }),
        ("tensor `blk.0.attn_nurm.weight` has no place", &|bytes| {
            // A further name for what is then missing would be told first: give the bias's place.
            let at = find("blk.0.attn_norm.weight");
            bytes[at + 13] = b'u';
        }),
    ];
    for (part, change) in cases {
        let message = refused(change);
        let missing = part.contains("nurm") && message.contains("`blk.0.attn_norm.weight` is missing");
        assert!(message.contains(part) || missing, "{part:?} in {message}");
        assert!(message.contains("model.gguf"), "{message}");
    }
}

fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("SKIPPED: {} is not there", path.display());
    None
}

#[test]
fn files_of_others_are_read_or_refused_by_name() {
    if let Some(path) = shared("gguf/llama-2-tiny-random.gguf") {
        let checkpoint = read(&path).unwrap();
        checkpoint.check().unwrap();
        assert_eq!((checkpoint.config.dim, checkpoint.config.vocab_size), (8, 32_000));
        let spec = checkpoint.tokenizer.unwrap();
        assert_eq!((spec.bos, spec.add_bos, &spec.end_tokens[..]), (Some(1), true, &[2][..]));
        assert_eq!(spec.tokens[13].bytes, [10]);
    }
    for (name, part) in [
        ("gguf/test_writer.gguf", "test_writer.gguf: "),
        ("gguf/emel_app_smoke_flow_a.gguf", "`general.architecture` is missing"),
        ("ggml-vocab/ggml-vocab-gpt-2.gguf", "a vocabulary only"),
        ("ggml-vocab/ggml-vocab-bert-bge.gguf", "`general.architecture` is \"bert\""),
    ] {
        let Some(path) = shared(name) else { continue };
        let message = read(&path).expect_err(name).to_string();
        assert!(message.contains(part), "{message}");
        eprintln!("{message}");
    }
}

/// The vocabularies that llama.cpp tests itself with, its texts and the ids it finds right.
#[test]
fn embedded_tokenizers_encode_as_llama_cpp_does() {
    use smidgen_runtime::tokenizer::{OwnedTokenizer, Special};
    for name in ["llama-spm", "gpt-2"] {
        let Some(path) = shared(&format!("ggml-vocab/ggml-vocab-{name}.gguf")) else { continue };
        let (spec, _) = tokenizer::read(&file::File::open(&path).unwrap()).unwrap().unwrap();
        let owned = OwnedTokenizer::build(&spec).unwrap();
        let texts = std::fs::read_to_string(path.with_extension("gguf.inp")).unwrap();
        let ids = std::fs::read_to_string(path.with_extension("gguf.out")).unwrap();
        let texts: Vec<&str> = texts.split("\n__ggml_vocab_test__\n").collect();
        let mut compared = 0;
        for (text, line) in texts.iter().zip(ids.lines()) {
            let want: Vec<u32> = line.split_whitespace().map(|id| id.parse().unwrap()).collect();
            let mut found = Vec::new();
            smidgen_runtime::tokenizer::CachedEncoder::new(owned.tokenizer())
                .encode(text, Special::Plain, false, &mut found)
                .unwrap();
            assert_eq!(found, want, "{name}: {text:?}");
            compared += 1;
        }
        assert!(compared > 40, "{compared}");
    }
}
