//! Tensors that the firmware copies into RAM: the same logits, in as much RAM as was told before.

use std::path::Path;

use smidgen_runtime::format::{DType, KvType};
use smidgen_runtime::hot_needed;

use crate::board::{self, M0, M3, M4F, M33};
use crate::{BUILDING, PROMPT, SEED, TOKENS, models, tell_here};

#[test]
fn copies_in_ram_tell_the_same_story() {
    for (board, dtype) in [(M4F, DType::Q8), (M33, DType::Q4), (M3, DType::F32)] {
        if !board::available(board) {
            continue;
        }
        let name = format!("hot-{}", board.target);
        let model = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.smidgen"));
        let kv_type = if dtype.is_quantized() { KvType::Q8 } else { KvType::F32 };
        let file = models::file(models::LLAMA, dtype, kv_type);
        let at_most = 3 * file.len() / 4;
        let firmware = {
            let _building = BUILDING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            std::fs::write(&model, &file).expect("the temporary directory can be written");
            board::build_hot(board, &model, &name, &[("SMIDGEN_HOT", &at_most.to_string())])
                .unwrap_or_else(|errors| panic!("{name}:\n{errors}"))
        };
        let arguments = format!("tokens={TOKENS} seed={SEED} prompt={PROMPT}");
        let outcome = board::run(board, &firmware, &arguments);
        assert!(outcome.status.success(), "{name}: {}", outcome.stderr);
        let text = String::from_utf8_lossy(&outcome.stdout);
        assert_eq!(text, String::from_utf8_lossy(&tell_here(&file).text), "{name}");
        let needed = hot_needed(&file, at_most) as u64;
        assert_eq!(outcome.figure("ram_hot_bytes"), needed);
        assert!(needed > at_most as u64 / 2 && outcome.figure("ram_static_bytes") > needed);
    }
}

#[test]
fn copying_can_not_panic() {
    for board in [M4F, M33, M3, M0] {
        if !board::available(board) {
            continue;
        }
        let name = format!("bare-hot-{}", board.target);
        let model = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.smidgen"));
        let file = models::file(models::LLAMA, DType::Q8, KvType::Q8);
        let firmware = {
            let _building = BUILDING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            std::fs::write(&model, &file).expect("the temporary directory can be written");
            board::build_bare_hot(board, &model, &name).unwrap_or_else(|errors| panic!("{name}:\n{errors}"))
        };
        board::proves_that_nothing_panics(&firmware, &name);
        let outcome = board::run(board, &firmware, "");
        assert!(outcome.status.success(), "{name} failed");
        let here = crate::tell::tell(&file, "Once upon a time", 20, 42);
        // Its context is shorter.
        let there = &outcome.stdout;
        assert!(
            there.len() > 24 && here.text.starts_with(there),
            "{name}: {}",
            String::from_utf8_lossy(there)
        );
    }
}
