//! Weights that a chip reads through a buffer: the same story, no panics, and RAM as the runtime says.

use std::path::Path;

use smidgen_runtime::format::{DType, KvType};
use smidgen_runtime::stream::{StreamLayout, StreamOptions, StreamPlan, least_buffer};
use smidgen_runtime::{SessionOptions, memory_needed};

use crate::board::{self, Board, M0, M3, M4F, M33};
use crate::{BUILDING, models, tell};

#[test]
fn weights_that_are_read_tell_the_same_story_without_panics() {
    let kinds = [
        ("q8", DType::Q8, None, 8, false),
        ("f32", DType::F32, Some((2048, 20_000)), 0, false),
        ("stored", DType::Q8, Some((2048, 0)), 0, true),
    ];
    for board in [M4F, M33, M3, M0] {
        if !board::available(board) {
            continue;
        }
        for (kind, dtype, sizes, candidates, stored_tokenizer) in kinds {
            let kv_type = if dtype.is_quantized() { KvType::Q8 } else { KvType::F32 };
            let file = models::file(models::LLAMA, dtype, kv_type);
            let least = least_buffer(&file).expect("a whole file");
            let (buffer, hot) = sizes.unwrap_or((least, 0));
            let options = StreamOptions { buffer, hot, stored_tokenizer };
            told_by(board, kind, &file, options, candidates);
        }
    }
}

fn told_by(board: Board, kind: &str, file: &[u8], options: StreamOptions, candidates: usize) {
    let model = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("streamed-{kind}.smidgen"));
    let name = format!("streamed-{kind}-{}", board.target);
    let firmware = {
        let _building = BUILDING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        std::fs::write(&model, file).expect("the temporary directory can be written");
        let [buffer, hot, candidates] = [options.buffer, options.hot, candidates].map(|n| n.to_string());
        let settings =
            [("SMIDGEN_BUFFER", &*buffer), ("SMIDGEN_HOT", &*hot), ("SMIDGEN_CANDIDATES", &*candidates)];
        board::build_streamed(board, &model, &name, &settings, options.stored_tokenizer)
            .unwrap_or_else(|errors| panic!("{name}:\n{errors}"))
    };
    board::proves_that_nothing_panics(&firmware, &name);
    let outcome = board::run(board, &firmware, "");
    assert!(outcome.status.success(), "{name} failed");
    // The program's own settings; it writes no end of line.
    let here = tell::tell(file, "Once upon a time", 20, 42);
    let there = [outcome.stdout.as_slice(), b"\n"].concat();
    assert_eq!(String::from_utf8_lossy(&there), String::from_utf8_lossy(&here.text), "{name}");

    let layout = StreamLayout::new(file, options).expect("a model file");
    for (figure, bytes) in [
        ("ram_session_bytes", memory_needed(file, SessionOptions { candidates, ..SessionOptions::new(40) })),
        ("ram_model_bytes", layout.total),
        ("ram_head_bytes", layout.head),
        ("ram_vector_bytes", layout.vectors),
        ("ram_buffer_bytes", layout.buffer),
    ] {
        assert_eq!(outcome.figure(figure), bytes as u64, "{name}: {figure}");
    }
    let plan = StreamPlan::new(file, options, None).expect("a model file");
    assert_eq!(outcome.figure("ram_hot_bytes"), plan.hot_bytes as u64, "{name}");
    assert_eq!(plan.hot_bytes > 0, options.hot > 0, "{name}");
    if candidates > 0 {
        return; // the head is read as often as it takes
    }
    // All but the head of the prompt's tokens, of which only the last one's logits are wanted.
    let (read, told) = (outcome.figure("bytes_read"), outcome.figure("bytes_read_told"));
    if options.stored_tokenizer {
        assert!(read > told / 2, "{name}: {read} of {told}");
        return; // the tokenizer is read besides
    }
    assert!(read < told && read > told / 2, "{name}: {read} of {told}");
    assert_eq!(told % plan.bytes_per_token, 0, "{name}");
}
