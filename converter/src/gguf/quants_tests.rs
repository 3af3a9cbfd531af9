use super::*;

/// Where a block's f16 fields are: any bits there would be infinities.
fn halves(kind: GgmlType) -> &'static [usize] {
    match kind {
        GgmlType::Q4_0 | GgmlType::Q5_0 | GgmlType::Q8_0 => &[0],
        GgmlType::Q6K => &[208],
        _ => &[0, 2],
    }
}

/// Sixteen blocks of the bytes that `tools/gguf_golden.py` makes.
fn blocks(kind: GgmlType) -> Vec<u8> {
    blocks_of(kind, 16)
}

/// The same, of any number.
pub(crate) fn blocks_of(kind: GgmlType, count: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut bytes: Vec<u8> = (0..count * kind.bytes())
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect();
    for block in bytes.chunks_mut(kind.bytes()) {
        for at in halves(kind) {
            block[at + 1] = 0x24 | block[at + 1] & 0x80;
        }
    }
    bytes
}

pub(crate) fn decode_all(kind: GgmlType, bytes: &[u8]) -> Vec<f32> {
    let mut values = vec![0.0; bytes.len() / kind.bytes() * kind.block()];
    for (block, out) in bytes.chunks(kind.bytes()).zip(values.chunks_mut(kind.block())) {
        kind.decode(block, out);
    }
    values
}

/// The eighth value, the last one, and the FNV-1a hash of all bits, from Python's `gguf` 0.19.
const GOLDEN: [(GgmlType, f32, f32, u64); 8] = [
    (GgmlType::Q4_0, 0.103637695, 0.04925537, 0x7d8f70e733c9e791),
    (GgmlType::Q4_1, -0.13731384, 0.19332886, 0xd8a32e188da3777e),
    (GgmlType::Q5_0, -0.01727295, 0.037597656, 0xeb2f6055089951e2),
    (GgmlType::Q5_1, -0.5173187, 0.2858734, 0x47fe1d0011f3d9dc),
    (GgmlType::Q8_0, -0.86364746, -1.6163635, 0xc8bba9e9d332e109),
    (GgmlType::Q4K, -3.249176, 4.1388702, 0x6305afb84d2c55f8),
    (GgmlType::Q5K, -5.1492004, -36.659042, 0xb901dc9f4aae5a67),
    (GgmlType::Q6K, 32.362305, -43.779373, 0xaf8cfd0f0df5419),
];

#[test]
fn blocks_are_those_of_the_gguf_package_to_the_bit() {
    for (kind, eighth, last, golden) in GOLDEN {
        let values = decode_all(kind, &blocks(kind));
        assert_eq!((values[7], values[values.len() - 1]), (eighth, last), "{kind:?}");
        // Negative zeros are made positive on both sides.
        let bytes = values.iter().flat_map(|value| (value + 0.0).to_le_bytes());
        let digest = bytes.fold(0xCBF2_9CE4_8422_2325_u64, |digest, byte| {
            (digest ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
        });
        assert_eq!(digest, golden, "{kind:?}");
    }
}

/// Blocks that llama.cpp itself made of known numbers come back as near as their bits allow, and
/// our Q8_0 is llama.cpp's.
#[test]
fn blocks_of_llama_cpp_come_back() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/ggml_quants");
    if !directory.exists() {
        eprintln!("SKIPPED: {} is not there", directory.display());
        return;
    }
    let read = |name: String| std::fs::read(directory.join(name)).unwrap();
    for (name, kind, most) in [
        ("q4_0_64", GgmlType::Q4_0, 0.075),
        ("q4_1_64", GgmlType::Q4_1, 0.065),
        ("q5_0_64", GgmlType::Q5_0, 0.036),
        ("q5_1_64", GgmlType::Q5_1, 0.035),
        ("q8_0_64", GgmlType::Q8_0, 0.0045),
        ("q4_k_512", GgmlType::Q4K, 0.065),
        ("q5_k_512", GgmlType::Q5K, 0.035),
        ("q6_k_512", GgmlType::Q6K, 0.018),
    ] {
        for variant in ["noim", "im"] {
            let input = read(format!("{name}_{variant}_input.bin"));
            let input: Vec<f32> =
                input.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            let expected = read(format!("{name}_{variant}_expected.bin"));
            let values = decode_all(kind, &expected);
            assert_eq!(values.len(), input.len());
            let square = |x: f32| f64::from(x) * f64::from(x);
            let error: f64 = values.iter().zip(&input).map(|(a, b)| square(a - b)).sum();
            let all: f64 = input.iter().map(|x| square(*x)).sum();
            let relative = (error / all).sqrt();
            assert!(relative < most && relative > most / 4.0, "{name} {variant}: {relative}");
            if kind == GgmlType::Q8_0 {
                let mut ours = Vec::new();
                encode_q8_0(&input, &mut ours);
                assert_eq!(ours, expected);
            }
        }
    }
}
