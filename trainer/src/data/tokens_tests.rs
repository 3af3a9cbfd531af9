use super::*;

const END: u32 = 256;

/// A token a byte.
fn bytes_encoding(vocab_size: u32, run: impl FnOnce(&Encoding<'_>)) {
    run(&Encoding {
        vocab_size,
        end_of_text: END,
        new_encoder: &|| {
            Box::new(|text: &str, out: &mut Vec<u32>| {
                if text.contains('\0') {
                    return Err("a zero byte".to_owned());
                }
                out.extend(text.bytes().map(u32::from));
                Ok(())
            })
        },
    });
}

fn build(text: &str, vocab_size: u32, context: usize) -> Result<(TokenFiles, Vec<String>), DataError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("text.txt");
    fs::write(&path, text).unwrap();
    let corpus = Corpus::open(&[path])?;
    let folder = dir.path().join("tokens");
    let mut built = None;
    bytes_encoding(vocab_size, |encoding| {
        let mut last = (0, 0);
        let never = AtomicBool::new(false);
        let files =
            TokenFiles::build(&corpus, encoding, &folder, context, &Pool::new(2), &never, &mut |now, all| {
                assert!(now >= last.0 && now <= all);
                last = (now, all);
            });
        built = Some(files);
    });
    let mut names: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    built.unwrap().map(|files| (files, names))
}

fn ids(tokens: Tokens<'_>) -> Vec<u32> {
    let mut ids = vec![0; tokens.len()];
    tokens.copy_to(0, &mut ids);
    ids
}

/// The documents that ids say, each with the mark before and behind it.
fn documents(ids: &[u32]) -> Vec<String> {
    assert_eq!((ids[0], ids[ids.len() - 1]), (END, END));
    ids[1..]
        .split_inclusive(|&id| id == END)
        .map(|ids| ids[..ids.len() - 1].iter().map(|&id| id as u8 as char).collect())
        .collect()
}

#[test]
fn documents_go_whole_to_one_side() {
    let told: Vec<String> = (0..1000).map(|i| format!("Document number {i}.")).collect();
    for (vocab_size, width) in [(257, 2), (70_000, 4)] {
        let (files, names) = build(&told.join("<|endoftext|>"), vocab_size, 16).unwrap();
        // About 20 bytes a document and shards of 1000 tokens.
        let shards = names.iter().filter(|name| name.starts_with("train-000")).count();
        assert!(shards > 15 && names[0] == "tokens.json" && names[1] == "train-00000.bin", "{names:?}");
        assert!(names.len() == 1 + shards + files.validation().len().div_ceil(1000), "{names:?}");
        let sizes: u64 = files.train.iter().map(|shard| shard.bytes().len() as u64).sum();
        assert_eq!(sizes, files.train().len() as u64 * width);
        let (train, validation) = (files.train(), files.validation());
        let (train, validation) = (documents(&ids(train)), documents(&ids(validation)));
        assert!((8..40).contains(&validation.len()), "{}", validation.len());
        let mut all = [train, validation].concat();
        all.sort_by_key(|text| text[16..text.len() - 1].parse::<u32>().unwrap());
        assert_eq!(all, told);
        assert_eq!(files.documents(), 1000);
        let bytes: usize = told.iter().map(String::len).sum();
        assert_eq!(files.bytes_per_token(), bytes as f64 / (bytes + 1002) as f64);
    }
}

#[test]
fn of_one_document_the_end_is_held_out() {
    let text = "abcdefghij".repeat(1000);
    let (files, _) = build(&text, 257, 16).unwrap();
    let all = [ids(files.train()), ids(files.validation())].concat();
    assert_eq!(files.validation().len(), 1000);
    // The other file's begin mark is now at the end.
    let expected: String = std::iter::once(&text[..]).chain([""]).collect();
    assert_eq!(documents(&all)[0], expected);
    let id = &mut [0];
    files.train().copy_to(3, id);
    assert_eq!(id[0], u32::from(b'c'));
}

#[test]
fn the_fingerprint_tells_data_apart() {
    let of = |text: &str| build(text, 257, 4).unwrap().0.fingerprint();
    let text = "some text that is long enough for a window";
    assert_eq!(of(text), of(text));
    assert_ne!(of(text), of(&text.replace("some", "same")));
}

#[test]
fn errors_leave_nothing_behind() {
    let error = build("too short", 257, 64).unwrap_err();
    let says = error.to_string();
    assert!(says.contains("a context of 64 needs at least 65"), "{says}");
    assert!(matches!(build(" \n ", 257, 4), Err(DataError::NoText { .. })));
    let Err(DataError::Tokenizer { document: 1, why }) = build("a<|endoftext|>\0", 257, 4) else { panic!() };
    assert_eq!(why, "a zero byte");

    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("tokens");
    bytes_encoding(257, |encoding| {
        let corpus = Corpus::Stories { seed: 0, bytes: 100_000 };
        let stop = AtomicBool::new(true);
        let stopped = TokenFiles::build(&corpus, encoding, &folder, 16, &Pool::new(2), &stop, &mut |_, _| {});
        assert!(matches!(stopped, Err(DataError::Stopped)));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        assert!(!TokenFiles::exist(&folder));

        // A file of another length than the description says is refused.
        let stop = AtomicBool::new(false);
        TokenFiles::build(&corpus, encoding, &folder, 16, &Pool::new(2), &stop, &mut |_, _| {}).unwrap();
        let path = folder.join("train-00001.bin");
        let length = fs::metadata(&path).unwrap().len();
        File::options().write(true).open(&path).unwrap().set_len(length - 2).unwrap();
        let Err(error) = TokenFiles::open(&folder) else { panic!() };
        assert!(error.to_string().contains(&format!("{} bytes, but", length - 2)), "{error}");

        // A folder that cannot be made.
        let below = path.join("tokens");
        let Err(error) =
            TokenFiles::build(&corpus, encoding, &below, 16, &Pool::new(2), &stop, &mut |_, _| {})
        else {
            panic!()
        };
        assert!(error.to_string().contains("cannot create"), "{error}");
    });
}
