//! Writing behind: one thread writes and one has the disk write, while others compute.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};

/// Bytes that are handed over at a time.
const PART: usize = 4 << 20;
/// Parts that may wait: memory is bounded by them.
const WAITING: usize = 8;
/// Bytes between two calls to the disk.
const SYNC_EVERY: usize = 64 << 20;

enum Order {
    Write(Vec<u8>),
    Seek(SeekFrom, Sender<io::Result<u64>>),
}

/// The file's end in the computing thread.
pub(super) struct Behind {
    orders: SyncSender<Order>,
    /// Parts that are written: their memory serves again.
    free: Receiver<Vec<u8>>,
}

fn gone() -> io::Error {
    io::Error::other("the writing thread has ended")
}

impl Write for Behind {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let part = &bytes[..bytes.len().min(PART)];
        let mut copy = self.free.try_recv().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(part);
        self.orders.send(Order::Write(copy)).map_err(|_| gone())?;
        Ok(part.len())
    }

    /// Waits until all is written, and tells if something was not.
    fn flush(&mut self) -> io::Result<()> {
        self.stream_position().map(drop)
    }
}

impl Seek for Behind {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (answer, answered) = mpsc::channel();
        self.orders.send(Order::Seek(to, answer)).map_err(|_| gone())?;
        answered.recv().map_err(|_| gone())?
    }
}

/// Calls `write` with a sink that writes to the file. Whatever goes wrong with the file is told by
/// the sink's next `seek` or `flush`.
pub(super) fn with_writer<T>(file: &mut File, write: impl FnOnce(&mut Behind) -> T) -> T {
    let (orders, taken) = mpsc::sync_channel(WAITING);
    let (written, free) = mpsc::channel();
    let (tick, ticks) = mpsc::sync_channel::<()>(1);
    // An error here comes again, and is told, when the file is synced as a whole.
    let same = file.try_clone();
    std::thread::scope(|scope| {
        if let Ok(same) = same {
            scope.spawn(move || ticks.iter().for_each(|()| drop(same.sync_data())));
        }
        scope.spawn(move || obey(file, &taken, &written, &tick));
        write(&mut Behind { orders, free })
    })
}

fn obey(file: &mut File, orders: &Receiver<Order>, written: &Sender<Vec<u8>>, tick: &SyncSender<()>) {
    let mut failed: Option<io::Error> = None;
    let mut since = 0;
    for order in orders {
        match order {
            // After an error nothing more is written; the next question is answered with it.
            Order::Write(_) if failed.is_some() => {}
            Order::Write(bytes) => {
                failed = file.write_all(&bytes).err();
                since += bytes.len();
                // Nobody takes it any more only at the end.
                let _ = written.send(bytes);
                if since >= SYNC_EVERY {
                    since = 0;
                    // Full: the disk has enough to do.
                    let _ = tick.try_send(());
                }
            }
            Order::Seek(to, answer) => {
                let result = match failed.take() {
                    Some(error) => Err(error),
                    None => file.seek(to),
                };
                // Nobody waits for an answer only if the asking thread is gone.
                let _ = answer.send(result);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn everything_arrives_in_order() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..3 * PART + 5).map(|i| (i % 251) as u8).collect();
        let end = with_writer(&mut file, |sink| {
            assert_eq!(sink.stream_position().unwrap(), 0);
            sink.write_all(&bytes).unwrap();
            sink.seek(SeekFrom::Start(2)).unwrap();
            sink.write_all(b"xyz").unwrap();
            sink.flush().unwrap();
            sink.seek(SeekFrom::End(0)).unwrap()
        });
        assert_eq!(end, bytes.len() as u64);
        let mut read = Vec::new();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_to_end(&mut read).unwrap();
        assert!(read[..2] == bytes[..2] && &read[2..5] == b"xyz" && read[5..] == bytes[5..]);
    }

    #[test]
    fn an_error_is_told_by_the_next_question() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "old").unwrap();
        // Opened for reading: writing to it fails.
        let mut file = File::open(&path).unwrap();
        with_writer(&mut file, |sink| {
            sink.write_all(b"new").unwrap();
            assert!(sink.flush().is_err());
        });
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
    }
}
