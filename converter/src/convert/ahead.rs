//! Working ahead: while one tensor is summed and written, the next is packed.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use smidgen_runtime::format::writer::{PackLoss, TensorPlan};

use crate::error::Error;

/// Tensors that are packed or being packed before they are asked for.
const AHEAD: usize = 2;

/// What packing made of a tensor, with its bytes.
type Packed = (Vec<u8>, Result<PackLoss, Error>);

/// Calls `f` with a function that gives the bytes of each tensor of a list, in the list's order. The bytes
/// of two tensors more are in memory meanwhile.
pub(super) fn in_order<T>(
    tensors: &[TensorPlan],
    pack: &(impl Fn(&TensorPlan, &mut Vec<u8>) -> Result<PackLoss, Error> + Sync),
    f: impl FnOnce(&mut dyn FnMut(&TensorPlan, &mut Vec<u8>) -> Result<PackLoss, Error>) -> T,
) -> T {
    rayon::in_place_scope(|scope| {
        let begin = |tensor: TensorPlan, mut bytes: Vec<u8>| {
            let (done, packed) = channel::<Packed>();
            scope.spawn(move |_| {
                let result = pack(&tensor, &mut bytes);
                // Nobody waits for it only if something else has failed.
                let _ = done.send((bytes, result));
            });
            (tensor, packed)
        };
        let mut list = tensors.iter().copied();
        let mut coming: VecDeque<_> =
            list.by_ref().take(AHEAD).map(|tensor| begin(tensor, Vec::new())).collect();
        f(&mut |tensor, bytes| {
            let out_of_turn =
                || Error::Option(format!("tensor {} is asked for out of turn", tensor.role.name()));
            let (next, packed) = coming.pop_front().ok_or_else(out_of_turn)?;
            if next != *tensor {
                return Err(out_of_turn());
            }
            let (mut full, result) = wait(&packed);
            core::mem::swap(bytes, &mut full);
            // The bytes of before are written: their memory serves again.
            coming.extend(list.next().map(|tensor| begin(tensor, full)));
            result
        })
    })
}

/// Waits for a tensor. On one of the pool's own threads by working, too: it may be the only one.
fn wait(packed: &Receiver<Packed>) -> Packed {
    const ENDED: &str = "packing has panicked";
    loop {
        match packed.try_recv() {
            Ok(packed) => return packed,
            Err(TryRecvError::Empty) => match rayon::yield_now() {
                None => return packed.recv().expect(ENDED),
                Some(rayon::Yield::Executed) => {}
                Some(rayon::Yield::Idle) => std::thread::yield_now(),
            },
            Err(TryRecvError::Disconnected) => panic!("{ENDED}"),
        }
    }
}
