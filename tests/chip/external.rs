//! A model in external memory, which the linker's script maps: the same story, and no flash taken.

use std::path::Path;

use smidgen_runtime::format::{DType, KvType};

use crate::board::{self, M4F, M33};
use crate::{BUILDING, PROMPT, SEED, TOKENS, models, tell_here};

#[test]
fn a_model_in_external_memory_tells_the_same_story() {
    for board in [M4F, M33] {
        if !board::available(board) {
            continue;
        }
        let name = format!("external-{}", board.target);
        let model = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.smidgen"));
        let file = models::file(models::LLAMA, DType::Q8, KvType::Q8);
        let firmware = {
            let _building = BUILDING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            std::fs::write(&model, &file).expect("the temporary directory can be written");
            board::build_external(board, &model, &name).unwrap_or_else(|errors| panic!("{name}:\n{errors}"))
        };
        let arguments = format!("tokens={TOKENS} seed={SEED} prompt={PROMPT}");
        let outcome = board::run(board, &firmware, &arguments);
        assert!(outcome.status.success(), "{name}: {}", outcome.stderr);
        let text = String::from_utf8_lossy(&outcome.stdout);
        assert_eq!(text, String::from_utf8_lossy(&tell_here(&file).text), "{name}");
        // Nothing of the model is among the constants.
        assert!(outcome.figure("flash_constant_bytes") < file.len() as u64, "{}", outcome.stderr);
    }
}
