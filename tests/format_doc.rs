//! `docs/format.md` is true: a file is written by the library and read here by the page's rules
//! alone, without the library's reader; the page's listing is what that reading gives.

mod common;

use std::fmt::Write as _;
use std::io::Cursor;
use std::path::Path;

use common::{Aligned, Random};
use smidgen_runtime::Model;
use smidgen_runtime::config::{Architecture, Config};
use smidgen_runtime::format::writer::{ModelPlan, TensorPlan, WriteError, pack_matrix, write_model};
use smidgen_runtime::format::{DType, KvType, Meta, Need, Role, RopeScaling};
use smidgen_runtime::tokenizer::{
    Normalizer, OwnedTokenizer, PreTokenizer, TokenSpec, TokenType, TokenizerKind, TokenizerSpec,
};

const CONFIG: Config = Config {
    architecture: Architecture::Llama,
    n_layers: 1,
    dim: 6,
    n_heads: 1,
    n_kv_heads: 1,
    head_dim: 6,
    ffn_dim: 4,
    vocab_size: 5,
    context_len: 8,
    norm_eps: 1e-5,
};

fn example_file() -> Vec<u8> {
    let token = |text: &str, token_type, score| TokenSpec { bytes: text.into(), token_type, score };
    let spec = TokenizerSpec {
        kind: TokenizerKind::SentencePieceBpe,
        pre_tokenizer: PreTokenizer::None,
        normalizer: Normalizer::None,
        add_bos: true,
        add_space_prefix: false,
        ignore_merges: false,
        tokens: vec![
            token("<s>", TokenType::Control, 0.0),
            token(" ", TokenType::Normal, -1.0),
            token("a", TokenType::Normal, -2.0),
            token("b", TokenType::Normal, -3.0),
            token("ab", TokenType::Normal, -0.5),
        ],
        merges: vec![],
        bos: Some(0),
        unknown: None,
        end_tokens: vec![0],
        added: vec![],
    };
    let tokenizer = OwnedTokenizer::build(&spec).expect("a sound vocabulary");
    let dtype = |role| match role {
        Role::Embedding => DType::Q8,
        Role::Q => DType::Q4,
        _ => DType::F32,
    };
    let roles = (0..64).filter_map(Role::from_u8).filter(|role| role.need(Architecture::Llama) == Need::Must);
    let plan = ModelPlan {
        config: CONFIG,
        kv_type: KvType::Q8,
        meta: Meta {
            name: "example",
            source: "random weights",
            writer: "tests",
            chat_template: "",
            rope_theta: 10_000.0,
            rope_scaling: RopeScaling::None,
            extra: "",
        },
        tokenizer: Some(tokenizer.data()),
        tensors: roles.map(|role| TensorPlan { layer: 0, role, dtype: dtype(role) }).collect(),
    };
    let mut random = Random(7);
    let mut sink = Cursor::new(Vec::new());
    write_model(&mut sink, &plan, |tensor, out| {
        let (rows, cols) = tensor.role.shape(&CONFIG);
        // Quarters: short to read, and exact in every type but the quantized ones.
        let values: Vec<f32> = (0..rows * cols).map(|_| (random.signed() * 8.0).round() / 4.0).collect();
        pack_matrix(tensor.dtype, rows, cols, &values, None, out);
        Ok::<(), WriteError>(())
    })
    .expect("a valid plan");
    sink.into_inner()
}

/// A walk over the file that writes a line for everything it passes.
struct Walk<'f> {
    file: &'f [u8],
    at: usize,
    listing: String,
}

/// Bytes in a line of the listing.
const LINE: usize = 10;

impl<'f> Walk<'f> {
    fn title(&mut self, title: &str) {
        let _ = writeln!(self.listing, "{}{title}", if self.listing.is_empty() { "" } else { "\n" });
    }

    /// The next bytes, told as `what`.
    fn take(&mut self, n: usize, what: &str) -> &'f [u8] {
        let bytes = &self.file[self.at..self.at + n];
        let mut skipping = false;
        for (i, line) in bytes.chunks(LINE).enumerate() {
            let dull = [[0, 0], [0x88, 0x88], [0x80, 0]]
                .iter()
                .any(|zeros| line.chunks(2).all(|two| two == &zeros[..two.len()]));
            if i > 0 && dull && n > 24 {
                if !skipping {
                    let _ = writeln!(self.listing, "      *");
                }
                skipping = true;
                continue;
            }
            skipping = false;
            let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02X}")).collect();
            let what = if i == 0 { what } else { "" };
            let text =
                format!("{:>6}  {:<width$}  {what}", self.at + i * LINE, hex.join(" "), width = 3 * LINE);
            let _ = writeln!(self.listing, "{}", text.trim_end());
        }
        self.at += n;
        bytes
    }

    /// A fixed little-endian number of `n` bytes.
    fn fixed(&mut self, n: usize, name: &str) -> u64 {
        let value = little(&self.file[self.at..self.at + n]);
        self.take(n, &format!("{name} = {value}"));
        value
    }

    fn float(&mut self, name: &str) -> f32 {
        let value = f32::from_bits(little(&self.file[self.at..self.at + 4]) as u32);
        self.take(4, &format!("{name} = {value}"));
        value
    }

    /// The value of the varint here, and its length.
    fn peek_varint(&self) -> (u64, usize) {
        let (mut value, mut n) = (0, 0);
        loop {
            let byte = self.file[self.at + n];
            value |= u64::from(byte & 0x7F) << (7 * n);
            n += 1;
            if byte & 0x80 == 0 {
                return (value, n);
            }
        }
    }

    fn varint(&mut self, name: &str) -> u64 {
        let (value, n) = self.peek_varint();
        self.take(n, &format!("{name} = {value}"));
        value
    }

    fn option(&mut self, name: &str) -> Option<u64> {
        if self.file[self.at] == 0 {
            self.take(1, &format!("{name}: none"));
            return None;
        }
        let before = self.at;
        self.at += 1;
        let (value, n) = self.peek_varint();
        self.at = before;
        self.take(1 + n, &format!("{name}: some, {value}"));
        Some(value)
    }

    /// Length and bytes, in one piece.
    fn bytes(&mut self, name: &str, show: impl Fn(&[u8]) -> String) -> &'f [u8] {
        let (length, n) = self.peek_varint();
        let length = length as usize;
        let value = &self.file[self.at + n..self.at + n + length];
        let shown = show(value);
        let value_words = if shown.is_empty() { String::new() } else { format!(" = {shown}") };
        self.take(n + length, &format!("{name}, {length} bytes{value_words}"));
        value
    }

    fn text(&mut self, name: &str) -> &'f [u8] {
        self.bytes(name, |bytes| {
            if bytes.is_empty() {
                String::new()
            } else {
                format!("{:?}", std::str::from_utf8(bytes).unwrap())
            }
        })
    }

    fn numbers(&mut self, name: &str, size: usize) -> Vec<u64> {
        let bytes = self.bytes(name, |bytes| {
            let all: Vec<_> = bytes.chunks(size).map(|chunk| little(chunk).to_string()).collect();
            all.join(" ")
        });
        bytes.chunks(size).map(little).collect()
    }
}

fn little(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

/// XXH32 as its specification has it, for inputs of at least 16 bytes.
fn xxh32(bytes: &[u8]) -> u32 {
    const P: [u32; 5] = [0x9E37_79B1, 0x85EB_CA77, 0xC2B2_AE3D, 0x27D4_EB2F, 0x1656_67B1];
    let word = |bytes: &[u8]| little(bytes) as u32;
    let mut lanes = [P[0].wrapping_add(P[1]), P[1], 0, 0u32.wrapping_sub(P[0])];
    let mut stripes = bytes.chunks_exact(16);
    for stripe in &mut stripes {
        for (lane, bytes) in lanes.iter_mut().zip(stripe.chunks_exact(4)) {
            let sum = lane.wrapping_add(word(bytes).wrapping_mul(P[1]));
            *lane = sum.rotate_left(13).wrapping_mul(P[0]);
        }
    }
    let rotated = lanes.iter().zip([1, 7, 12, 18]).map(|(lane, by)| lane.rotate_left(by));
    let mut hash = rotated.fold(0u32, u32::wrapping_add).wrapping_add(bytes.len() as u32);
    let mut words = stripes.remainder().chunks_exact(4);
    for bytes in &mut words {
        hash = hash.wrapping_add(word(bytes).wrapping_mul(P[2])).rotate_left(17).wrapping_mul(P[3]);
    }
    for &byte in words.remainder() {
        hash = hash.wrapping_add(u32::from(byte).wrapping_mul(P[4])).rotate_left(11).wrapping_mul(P[0]);
    }
    hash = (hash ^ (hash >> 15)).wrapping_mul(P[1]);
    hash = (hash ^ (hash >> 13)).wrapping_mul(P[2]);
    hash ^ (hash >> 16)
}

/// One row of the table.
struct Entry {
    role: Role,
    dtype: u64,
    rows: usize,
    cols: usize,
    offset: usize,
}

/// Reads the file by the page's rules; gives the listing and where each tensor lies.
fn walk(file: &[u8]) -> (String, Vec<Entry>, usize) {
    let mut walk = Walk { file, at: 0, listing: String::new() };
    walk.title("prefix");
    walk.take(8, "magic");
    walk.fixed(4, "version");
    let checksum = little(&file[12..16]) as u32;
    walk.take(4, &format!("checksum = {checksum:#010x}"));
    assert_eq!(xxh32(&file[16..]), checksum);
    assert_eq!(walk.fixed(8, "file_len"), file.len() as u64);
    for name in ["architecture", "kv_type"] {
        walk.fixed(1, name);
    }
    walk.take(2, "zero");
    let fields =
        ["n_layers", "dim", "n_heads", "n_kv_heads", "head_dim", "ffn_dim", "vocab_size", "context_len"];
    let [n_layers, dim, .., vocab_size, _] = fields.map(|name| walk.fixed(4, name));
    assert_eq!([n_layers, dim, vocab_size], [1, 6, 5]);
    walk.float("norm_eps");
    let roles = ["global_roles", "layer_roles"].map(|name| {
        let mask = little(&file[walk.at..walk.at + 4]);
        walk.take(4, &format!("{name} = {mask:#b}"));
        mask.count_ones() as u64
    });
    let [table_at, data_at, data_len] =
        ["table_at", "data_at", "data_len"].map(|name| walk.fixed(8, name) as usize);
    let longest = walk.fixed(4, "max_token_bytes");
    walk.take(28, "zero");

    walk.title("meta");
    for name in ["name", "source", "writer", "chat_template"] {
        walk.text(name);
    }
    walk.float("rope_theta");
    walk.varint("rope_scaling");
    walk.text("extra");

    walk.title("tokenizer");
    walk.take(1, "there is one");
    for name in ["kind", "pre_tokenizer", "normalizer"] {
        walk.varint(name);
    }
    for name in ["add_bos", "add_space_prefix", "ignore_merges"] {
        walk.fixed(1, name);
    }
    let n = walk.varint("n_tokens");
    assert_eq!(walk.varint("max_token_bytes"), longest);
    walk.option("bos");
    walk.option("unknown");
    walk.numbers("end_tokens", 4);
    let text = walk.text("text");
    let offsets = walk.numbers("offsets", 4);
    let token = |id: u64| &text[offsets[id as usize] as usize..offsets[id as usize + 1] as usize];
    assert_eq!((0..n).map(token).collect::<Vec<_>>(), [&b"<s>"[..], b" ", b"a", b"b", b"ab"]);
    let sorted = walk.numbers("index", 2);
    assert_eq!(sorted.iter().map(|&id| token(id)).collect::<Vec<_>>(), [&b" "[..], b"a", b"ab", b"b"]);
    walk.numbers("byte_tokens", 2);
    walk.numbers("types", 1);
    walk.numbers("left_len", 1);
    walk.numbers("ranks", 4);
    walk.numbers("extra_merges", 4);
    let scores = walk.bytes("scores", |bytes| {
        let all: Vec<_> = bytes.chunks(4).map(|s| f32::from_bits(little(s) as u32).to_string()).collect();
        all.join(" ")
    });
    assert_eq!(scores.len() as u64, 4 * n);
    walk.numbers("added", 4);

    walk.title("table");
    let n_tensors = walk.varint("tensors");
    assert_eq!(n_tensors, roles[0] + n_layers * roles[1]);
    assert_eq!(walk.at, table_at);
    let mut entries = Vec::new();
    for _ in 0..n_tensors {
        let bytes = &file[walk.at..walk.at + 20];
        let role = Role::from_u8(bytes[0]).expect("a role");
        let number = |range: std::ops::Range<usize>| little(&bytes[range]) as usize;
        let (rows, cols, offset) = (number(4..8), number(8..12), number(12..20));
        let dtype = ["", "F32", "F16", "Q8", "Q4"][bytes[1] as usize];
        walk.take(20, &format!("{} {dtype} [{rows}, {cols}] at {offset}", role.name()));
        entries.push(Entry { role, dtype: bytes[1].into(), rows, cols, offset });
    }

    walk.title("padding");
    walk.bytes("zeros", |_| String::new());

    walk.title("data");
    let (length, bytes) = walk.peek_varint();
    walk.take(bytes, &format!("{length} bytes follow"));
    assert_eq!((walk.at, length as usize, walk.at + length as usize), (data_at, data_len, file.len()));
    for entry in &entries {
        let shown = matches!(entry.role, Role::Embedding | Role::FinalNorm | Role::RopeFrequencies | Role::Q);
        if shown {
            walk.at = data_at + entry.offset;
            list_tensor(&mut walk, entry);
        }
    }
    walk.title("one weight: embedding, row 1, column 2");
    let embedding = &entries[0];
    let (_, multipliers_at, scales_at) = planes(embedding);
    for (at, n, what) in [(6, 1, "quant"), (multipliers_at + 1, 1, "multiplier"), (scales_at + 2, 2, "scale")]
    {
        walk.at = data_at + embedding.offset + at;
        let bits = little(&file[walk.at..walk.at + n]);
        let value = match what {
            "quant" => bits as f32 - 128.0,
            "scale" => f32::from_bits((bits as u32) << 16),
            _ => bits as f32,
        };
        walk.take(n, &format!("{what} = {value}"));
    }
    let value = weight(&file[data_at + embedding.offset..], embedding, 1, 2);
    let _ =
        writeln!(walk.listing, "{:>width$}quant × (multiplier × scale) = {value}", "", width = 11 + 3 * LINE);
    (walk.listing, entries, data_at)
}

/// Where the planes of a quantized tensor begin, from its first byte: multipliers, scales.
fn planes(entry: &Entry) -> (usize, usize, usize) {
    let (rows, cols) = (entry.rows.next_multiple_of(4), entry.cols.next_multiple_of(32));
    let quants = if entry.dtype == 3 { rows * cols } else { rows * cols / 2 };
    let multipliers_at = quants.next_multiple_of(64);
    let scales_at = (multipliers_at + rows * cols / 32).next_multiple_of(64);
    (quants, multipliers_at, scales_at)
}

fn list_tensor(walk: &mut Walk<'_>, entry: &Entry) {
    let name = entry.role.name();
    if entry.dtype == 1 {
        let n = entry.rows * entry.cols;
        let values: Vec<String> = walk.file[walk.at..walk.at + 4 * n]
            .chunks(4)
            .map(|bytes| f32::from_bits(little(bytes) as u32).to_string())
            .collect();
        walk.take(4 * n, &format!("{name} = {}", values.join(" ")));
        return;
    }
    let (rows, cols) = (entry.rows.next_multiple_of(4), entry.cols.next_multiple_of(32));
    let (quants, multipliers_at, scales_at) = planes(entry);
    let begin = walk.at;
    walk.take(quants, &format!("{name}, quants"));
    walk.at = begin + multipliers_at;
    walk.take(rows * cols / 32, &format!("{name}, multipliers"));
    walk.at = begin + scales_at;
    walk.take(2 * rows * cols.div_ceil(256), &format!("{name}, scales"));
}

/// One weight of a quantized tensor, by the page's formulas.
fn weight(tensor: &[u8], entry: &Entry, r: usize, c: usize) -> f32 {
    let cols = entry.cols.next_multiple_of(32);
    let (groups, blocks) = (cols / 32, cols.div_ceil(256));
    let (_, multipliers_at, scales_at) = planes(entry);
    let quant = if entry.dtype == 3 {
        let byte = tensor[(r / 4) * 4 * cols + (c / 4) * 16 + (r % 4) * 4 + c % 4];
        if c % 2 == 1 { i32::from(byte as i8) } else { i32::from(byte) - 128 }
    } else {
        let byte = tensor[(r / 4) * 2 * cols + (c / 8) * 16 + (r % 4) * 4 + c % 4];
        i32::from(if c % 8 < 4 { byte & 15 } else { byte >> 4 }) - 8
    };
    let multiplier = tensor[multipliers_at + ((r / 4) * groups + c / 32) * 4 + r % 4];
    let scale_at = scales_at + 2 * (((r / 4) * blocks + c / 256) * 4 + r % 4);
    let scale = f32::from_bits((little(&tensor[scale_at..scale_at + 2]) as u32) << 16);
    quant as f32 * (f32::from(multiplier) * scale)
}

#[test]
fn the_pages_listing_is_the_file() {
    let (listing, ..) = walk(&example_file());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/format.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let mark = "--test format_doc`. -->\n```text\n";
    let begin = page.find(mark).expect("the page has a place for the listing") + mark.len();
    let end = begin + page[begin..].find("```").expect("the block ends");
    if std::env::var_os("SMIDGEN_WRITE_DOCS").is_some() {
        let page = format!("{}{listing}{}", &page[..begin], &page[end..]);
        // The other tests read the page at this moment: it must be whole for them.
        let new = path.with_extension("new");
        std::fs::write(&new, page).unwrap();
        std::fs::rename(&new, &path).unwrap();
        return;
    }
    for (line, (told, is)) in page[begin..end].lines().zip(listing.lines()).enumerate() {
        assert_eq!(told, is, "line {} of the listing", line + 1);
    }
    assert_eq!(page[begin..end].lines().count(), listing.lines().count());
}

#[test]
fn the_pages_formulas_find_every_weight() {
    let file = Aligned::new(&example_file());
    let (_, entries, data_at) = walk(&file);
    let model = Model::load(&file).expect("the library reads it too");
    for entry in &entries {
        let matrix = model.tensor(0, entry.role).expect("it is there");
        let tensor = &file[data_at + entry.offset..];
        let mut want = vec![0.0; entry.cols];
        for r in 0..entry.rows {
            matrix.row(r, &mut want);
            for (c, want) in want.iter().enumerate() {
                let got = match entry.dtype {
                    1 => f32::from_bits(little(&tensor[4 * (r * entry.cols + c)..][..4]) as u32),
                    _ => weight(tensor, entry, r, c),
                };
                assert_eq!(got, *want, "{} [{r}, {c}]", entry.role.name());
            }
        }
    }
}

/// The page's table of roles, in its own words, against what the library does.
#[test]
fn the_pages_roles_are_the_librarys() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/format.md")).unwrap();
    let table = page.split("| role | tensor |").nth(1).expect("the page has the table");
    let mut told = 0;
    for row in table.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let numbers: Vec<u8> = cells[1].split(", ").map(|number| number.parse().unwrap()).collect();
        for (i, number) in numbers.iter().enumerate() {
            let role = Role::from_u8(*number).expect("a role");
            let first = Role::from_u8(numbers[0]).unwrap();
            assert!(cells[2].contains(first.name()), "{row}");
            for (cell, architecture) in [(cells[4], Architecture::Gpt2), (cells[5], Architecture::Llama)] {
                let word = if cell.contains(", ") { cell.split(", ").nth(i).unwrap() } else { cell };
                let want = match role.need(architecture) {
                    Need::Must => "must",
                    Need::May => "may",
                    Need::MustNot => "–",
                };
                assert_eq!(word, want, "{} in {}", role.name(), architecture.name());
            }
            told += 1;
        }
    }
    assert_eq!(told, (0..64).filter_map(Role::from_u8).count());
}
