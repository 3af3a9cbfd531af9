//! Pickles without code: a list of operations, a list of names, and nothing else.
//!
//! A pickle is a program for a small stack machine, which in Python may import and call anything.
//! Here it can build numbers, strings, lists, tuples, dictionaries and descriptions of tensors. Each
//! name that it may mention is in [`GLOBALS`]; any other, and any other operation, ends the reading.

use std::collections::HashMap;
use std::path::Path;

use crate::bytes::Reader;
use crate::error::Error;

/// What pickles of weights may name.
const GLOBALS: [(&str, &str, Global); 22] = [
    ("collections", "OrderedDict", Global::Dict),
    ("torch._utils", "_rebuild_tensor_v2", Global::Tensor),
    ("torch._utils", "_rebuild_tensor", Global::Tensor),
    ("torch._utils", "_rebuild_parameter", Global::Parameter),
    ("torch", "FloatStorage", Global::Storage(Number::F32)),
    ("torch", "HalfStorage", Global::Storage(Number::F16)),
    ("torch", "BFloat16Storage", Global::Storage(Number::Bf16)),
    ("torch", "DoubleStorage", Global::Storage(Number::Other("F64", 8))),
    ("torch", "LongStorage", Global::Storage(Number::Other("I64", 8))),
    ("torch", "IntStorage", Global::Storage(Number::Other("I32", 4))),
    ("torch", "ShortStorage", Global::Storage(Number::Other("I16", 2))),
    ("torch", "CharStorage", Global::Storage(Number::Other("I8", 1))),
    ("torch", "ByteStorage", Global::Storage(Number::Other("U8", 1))),
    ("torch", "BoolStorage", Global::Storage(Number::Other("BOOL", 1))),
    ("torch", "Size", Global::Size),
    ("torch", "device", Global::Ignored),
    ("torch", "float32", Global::Ignored),
    ("torch", "float16", Global::Ignored),
    ("torch", "bfloat16", Global::Ignored),
    ("torch", "float64", Global::Ignored),
    ("torch", "int64", Global::Ignored),
    ("torch", "bool", Global::Ignored),
];

/// A tensor's number type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    F32,
    F16,
    Bf16,
    /// Known by name and size, never read.
    Other(&'static str, usize),
}

impl Number {
    pub(crate) const fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Other(_, size) => size,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    Dict,
    Tensor,
    Parameter,
    Storage(Number),
    Size,
    Ignored,
}

/// A value. Containers and tensors are numbers of nodes: values nest as deep as they like, and
/// nothing here recurses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'a str),
    Tuple(usize),
    List(usize),
    Dict(usize),
    Global(Global),
    Storage(usize),
    Tensor(usize),
    /// Built from allowed parts and of no use here (a device, say).
    Ignored,
}

/// A tensor's description.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tensor<'a> {
    /// Its storage's key in the archive.
    pub(super) key: &'a str,
    pub(super) number: Number,
    /// Numbers in the storage.
    pub(super) storage_len: usize,
    /// Numbers before the tensor's first.
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

#[derive(Clone, Debug)]
enum Node<'a> {
    Values(Vec<Value<'a>>),
    Pairs(Vec<(Value<'a>, Value<'a>)>),
    Storage { number: Number, key: &'a str, len: usize },
    Tensor(Tensor<'a>),
}

/// What a pickle built.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    nodes: Vec<Node<'a>>,
    pub(super) root: Value<'a>,
    /// Bytes that it takes.
    pub(super) len: usize,
}

impl<'a> Pickle<'a> {
    /// Runs a pickle. `begin` is where it lies in the file, for messages.
    pub(super) fn read(path: &'a Path, bytes: &'a [u8], begin: usize) -> Result<Self, Error> {
        let mut machine = Machine {
            reader: Reader::new(path, bytes, 0),
            path,
            begin,
            nodes: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        };
        let root = machine.run()?;
        Ok(Self { len: machine.reader.at(), nodes: machine.nodes, root })
    }

    /// The storages that tensors lie in: key, number type, numbers.
    pub(super) fn storages(&self) -> impl Iterator<Item = (&'a str, Number, usize)> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Storage { number, key, len } => Some((*key, *number, *len)),
            _ => None,
        })
    }

    /// The values of a list or tuple, or `None` if it is neither.
    pub(super) fn items(&self, value: Value<'a>) -> Option<&[Value<'a>]> {
        items(&self.nodes, value)
    }

    /// A dictionary's pairs, or `None` if it is no dictionary.
    pub(super) fn pairs(&self, value: Value<'a>) -> Option<&[(Value<'a>, Value<'a>)]> {
        match value {
            Value::Dict(node) => match &self.nodes[node] {
                Node::Pairs(pairs) => Some(pairs),
                _ => None,
            },
            _ => None,
        }
    }

    /// The value of a dictionary's key (the last one given).
    pub(super) fn get(&self, dict: Value<'a>, key: &str) -> Option<Value<'a>> {
        let pairs = self.pairs(dict)?;
        pairs.iter().rev().find(|(name, _)| *name == Value::Text(key)).map(|(_, value)| *value)
    }

    pub(super) fn tensor(&self, value: Value<'a>) -> Option<&Tensor<'a>> {
        match value {
            Value::Tensor(node) => match &self.nodes[node] {
                Node::Tensor(tensor) => Some(tensor),
                _ => None,
            },
            _ => None,
        }
    }
}

fn items<'a, 'b>(nodes: &'b [Node<'a>], value: Value<'a>) -> Option<&'b [Value<'a>]> {
    match value {
        Value::Tuple(node) | Value::List(node) => match &nodes[node] {
            Node::Values(values) => Some(values),
            _ => None,
        },
        _ => None,
    }
}

struct Machine<'a> {
    reader: Reader<'a>,
    path: &'a Path,
    begin: usize,
    nodes: Vec<Node<'a>>,
    stack: Vec<Value<'a>>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
}

impl<'a> Machine<'a> {
    fn error(&self, reason: impl core::fmt::Display) -> Error {
        let at = self.begin + self.reader.at();
        Error::malformed(self.path, format!("pickle, before byte {at}: {reason}"))
    }

    fn bytes(&mut self, len: usize) -> Result<&'a [u8], Error> {
        if len > self.reader.left() {
            return Err(self.error(format!("{len} bytes are wanted, {} are left", self.reader.left())));
        }
        self.reader.take(len, "a pickle")
    }

    fn byte(&mut self) -> Result<u8, Error> {
        Ok(self.bytes(1)?[0])
    }

    fn u32(&mut self) -> Result<u32, Error> {
        let bytes = self.bytes(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn text(&mut self, len: usize) -> Result<&'a str, Error> {
        let bytes = self.bytes(len)?;
        std::str::from_utf8(bytes).map_err(|_| self.error("a string is not UTF-8"))
    }

    fn line(&mut self) -> Result<&'a str, Error> {
        let mut len = 0;
        let mut ahead = self.reader;
        while ahead.left() > 0 && ahead.take(1, "a name")? != b"\n" {
            len += 1;
        }
        let line = self.text(len)?;
        self.byte()?;
        Ok(line)
    }

    fn pop(&mut self) -> Result<Value<'a>, Error> {
        let least = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= least {
            return Err(self.error("the stack is empty"));
        }
        self.stack.pop().ok_or_else(|| self.error("the stack is empty"))
    }

    fn top(&self) -> Result<Value<'a>, Error> {
        self.stack.last().copied().ok_or_else(|| self.error("the stack is empty"))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value<'a>>, Error> {
        let mark = self.marks.pop().ok_or_else(|| self.error("there is no mark"))?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn node(&mut self, node: Node<'a>) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn tuple(&mut self, values: Vec<Value<'a>>) {
        let node = self.node(Node::Values(values));
        self.stack.push(Value::Tuple(node));
    }

    fn last(&mut self, n: usize) -> Result<Vec<Value<'a>>, Error> {
        let mut values = (0..n).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
        values.reverse();
        Ok(values)
    }

    fn run(&mut self) -> Result<Value<'a>, Error> {
        loop {
            let op = self.byte()?;
            match op {
                0x80 => {
                    let version = self.byte()?;
                    if !(2..=5).contains(&version) {
                        return Err(self.error(format!("protocol {version} is not read, only 2 to 5")));
                    }
                }
                // FRAME: its length is of no use.
                0x95 => drop(self.bytes(8)?),
                b'.' => return self.pop(),
                b'(' => self.marks.push(self.stack.len()),
                b'N' => self.stack.push(Value::None),
                0x88 | 0x89 => self.stack.push(Value::Bool(op == 0x88)),
                b'J' => {
                    let value = self.u32()? as i32;
                    self.stack.push(Value::Int(value.into()));
                }
                b'K' => {
                    let value = self.byte()?;
                    self.stack.push(Value::Int(value.into()));
                }
                b'M' => {
                    let bytes = self.bytes(2)?;
                    self.stack.push(Value::Int(u16::from_le_bytes([bytes[0], bytes[1]]).into()));
                }
                0x8A => self.long()?,
                b'G' => {
                    let bytes = self.bytes(8)?;
                    let bits = bytes.iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte));
                    self.stack.push(Value::Float(f64::from_bits(bits)));
                }
                b'X' => {
                    let len = self.u32()? as usize;
                    let text = self.text(len)?;
                    self.stack.push(Value::Text(text));
                }
                0x8C => {
                    let len = self.byte()?.into();
                    let text = self.text(len)?;
                    self.stack.push(Value::Text(text));
                }
                b')' => self.tuple(Vec::new()),
                0x85..=0x87 => {
                    let values = self.last(usize::from(op - 0x84))?;
                    self.tuple(values);
                }
                b't' => {
                    let values = self.pop_to_mark()?;
                    self.tuple(values);
                }
                b']' => {
                    let node = self.node(Node::Values(Vec::new()));
                    self.stack.push(Value::List(node));
                }
                b'}' => {
                    let node = self.node(Node::Pairs(Vec::new()));
                    self.stack.push(Value::Dict(node));
                }
                b'a' => {
                    let value = self.pop()?;
                    self.append(vec![value])?;
                }
                b'e' => {
                    let values = self.pop_to_mark()?;
                    self.append(values)?;
                }
                b's' => {
                    let pair = self.last(2)?;
                    self.set(&pair)?;
                }
                b'u' => {
                    let pairs = self.pop_to_mark()?;
                    self.set(&pairs)?;
                }
                b'q' | b'r' | 0x94 => {
                    let index = match op {
                        b'q' => self.byte()?.into(),
                        b'r' => self.u32()?,
                        _ => self.memo.len() as u32,
                    };
                    let value = self.top()?;
                    self.memo.insert(index, value);
                }
                b'h' | b'j' => {
                    let index = if op == b'h' { self.byte()?.into() } else { self.u32()? };
                    let value = self.memo.get(&index).copied();
                    let value =
                        value.ok_or_else(|| self.error(format!("nothing is remembered as {index}")))?;
                    self.stack.push(value);
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.global(module, name)?;
                }
                0x93 => match self.last(2)?[..] {
                    [Value::Text(module), Value::Text(name)] => self.global(module, name)?,
                    _ => return Err(self.error("a global without a name")),
                },
                b'Q' => self.storage()?,
                b'R' => self.reduce()?,
                // State set on a dictionary (`_metadata`) or a tensor: of no use here.
                b'b' => {
                    self.pop()?;
                    if !matches!(self.top()?, Value::Dict(_) | Value::Tensor(_) | Value::Ignored) {
                        return Err(self.error("BUILD on what is no dictionary and no tensor"));
                    }
                }
                other => {
                    return Err(self.error(format!(
                        "operation {other:#04x} is not among those that weights need; nothing was run"
                    )));
                }
            }
        }
    }

    /// LONG1. What does not fit 64 bits is no size of anything.
    fn long(&mut self) -> Result<(), Error> {
        let len = usize::from(self.byte()?);
        let bytes = self.bytes(len)?;
        if len > 8 {
            self.stack.push(Value::Ignored);
            return Ok(());
        }
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let fill = if negative { 0xFF } else { 0 };
        let mut whole = [fill; 8];
        whole[..len].copy_from_slice(bytes);
        self.stack.push(Value::Int(i64::from_le_bytes(whole)));
        Ok(())
    }

    fn append(&mut self, values: Vec<Value<'a>>) -> Result<(), Error> {
        match self.top()? {
            Value::List(node) => match &mut self.nodes[node] {
                Node::Values(list) => list.extend(values),
                _ => return Err(self.error("a list that is none")),
            },
            _ => return Err(self.error("appending to what is no list")),
        }
        Ok(())
    }

    fn set(&mut self, pairs: &[Value<'a>]) -> Result<(), Error> {
        let (pairs, []) = pairs.as_chunks::<2>() else {
            return Err(self.error("a key without a value"));
        };
        match self.top()? {
            Value::Dict(node) => match &mut self.nodes[node] {
                Node::Pairs(dict) => dict.extend(pairs.iter().map(|[key, value]| (*key, *value))),
                _ => return Err(self.error("a dictionary that is none")),
            },
            _ => return Err(self.error("setting items of what is no dictionary")),
        }
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), Error> {
        let known = GLOBALS.iter().find(|(m, n, _)| (*m, *n) == (module, name));
        let Some((_, _, global)) = known else {
            let short = |text: &str| text.chars().take(60).collect::<String>();
            let named = format!("{}.{}", short(module), short(name));
            return Err(Error::unsupported(
                self.path,
                format!(
                    "the pickle names `{named}`, which is not among what weights need; nothing of it was run"
                ),
            ));
        };
        self.stack.push(Value::Global(*global));
        Ok(())
    }

    fn values(&self, value: Value<'a>) -> Option<&[Value<'a>]> {
        items(&self.nodes, value)
    }

    /// BINPERSID of `("storage", type, key, device, length)`; before PyTorch 1.6 there is a view of
    /// another storage behind these, or None.
    fn storage(&mut self) -> Result<(), Error> {
        let id = self.pop()?;
        if let Some([_, _, _, _, _, view]) = self.values(id)
            && *view != Value::None
        {
            return Err(self.error("a storage that is a part of another is not read"));
        }
        let node = match self.values(id) {
            Some(
                [
                    Value::Text("storage"),
                    Value::Global(Global::Storage(number)),
                    Value::Text(key),
                    _,
                    Value::Int(len),
                    ..,
                ],
            ) => usize::try_from(*len).ok().map(|len| Node::Storage { number: *number, key, len }),
            _ => None,
        };
        let node = node.ok_or_else(|| self.error("a persistent id that is no tensor's storage"))?;
        let node = self.node(node);
        self.stack.push(Value::Storage(node));
        Ok(())
    }

    fn reduce(&mut self) -> Result<(), Error> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let wrong = || self.error("a call with arguments that it can't have");
        let arguments = self.values(arguments).ok_or_else(wrong)?;
        let value = match (function, arguments) {
            (Value::Global(Global::Dict), []) => Value::Dict(self.node(Node::Pairs(Vec::new()))),
            (Value::Global(Global::Size), [tuple @ Value::Tuple(_)]) => *tuple,
            (Value::Global(Global::Ignored), _) => Value::Ignored,
            (Value::Global(Global::Parameter), [tensor @ Value::Tensor(_), ..]) => *tensor,
            (
                Value::Global(Global::Tensor),
                [Value::Storage(storage), Value::Int(offset), shape, strides, ..],
            ) => {
                let Node::Storage { number, key, len } = self.nodes[*storage] else { return Err(wrong()) };
                let sizes = |value: Value<'a>| -> Option<Vec<usize>> {
                    let values = self.values(value).filter(|values| values.len() <= 8)?;
                    let size = |value: &Value<'a>| match value {
                        Value::Int(size) => usize::try_from(*size).ok(),
                        _ => None,
                    };
                    values.iter().map(size).collect()
                };
                let offset = usize::try_from(*offset).map_err(|_| wrong())?;
                let (shape, strides) = sizes(*shape).zip(sizes(*strides)).ok_or_else(wrong)?;
                if shape.len() != strides.len() {
                    return Err(wrong());
                }
                let tensor = Tensor { key, number, storage_len: len, offset, shape, strides };
                Value::Tensor(self.node(Node::Tensor(tensor)))
            }
            _ => return Err(wrong()),
        };
        self.stack.push(value);
        Ok(())
    }
}
