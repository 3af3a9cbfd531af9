//! The console as its user meets it: bytes in, bytes out.

use std::collections::VecDeque;

use embedded_io::{ErrorKind, ErrorType, Read, Write};
use smidgen_console::{Board, ConsoleError, LONGEST_LINE, Thousandths, Unit, Usage, context, decimal, serve};
use smidgen_runtime::{
    Memory, Model, Sampler, SamplerOptions, Session, SessionOptions, include_model, memory_needed,
};

static FILE: &[u8] = include_model!("../../models/stories.smidgen");
const OPTIONS: SessionOptions = SessionOptions::new(context(FILE, None, 128));
const BYTES: usize = memory_needed(FILE, OPTIONS);

/// A terminal at which somebody has typed all of this already.
#[derive(Default)]
struct Typed {
    input: VecDeque<u8>,
    output: Vec<u8>,
    /// The line breaks down after so many bytes of output.
    breaks_after: Option<usize>,
}

impl ErrorType for Typed {
    type Error = ErrorKind;
}

impl Read for Typed {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        let n = buffer.len().min(self.input.len());
        buffer.iter_mut().zip(self.input.drain(..n)).for_each(|(place, byte)| *place = byte);
        Ok(n)
    }
}

impl Write for Typed {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        if self.breaks_after.is_some_and(|limit| self.output.len() >= limit) {
            return Err(ErrorKind::ConnectionReset);
        }
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

/// Every look at the clock takes half a millisecond, or 500 instructions.
struct Fake<const INSTRUCTIONS: bool>(u64);

impl<const INSTRUCTIONS: bool> Board for Fake<INSTRUCTIONS> {
    const UNIT: Unit = if INSTRUCTIONS { Unit::Instructions } else { Unit::Microseconds };

    fn now(&mut self) -> u64 {
        self.0 += 500;
        self.0
    }

    fn usage(&self) -> Option<Usage> {
        let (code_bytes, constant_bytes, data_bytes) = (1000, 100, 11);
        let (ram_static_bytes, stack_bytes) = (2222, Some(3333));
        Some(Usage { code_bytes, constant_bytes, data_bytes, ram_static_bytes, stack_bytes })
    }
}

fn talk_to(mut serial: Typed, board: &mut impl Board) -> (Result<(), ConsoleError<ErrorKind>>, String) {
    let mut memory = Box::new(Memory::<BYTES>::new());
    let result = serve(FILE, (*memory).as_mut(), OPTIONS, &mut serial, board);
    (result, String::from_utf8_lossy(&serial.output).into_owned())
}

fn talk(input: impl AsRef<[u8]>) -> String {
    let serial = Typed { input: input.as_ref().iter().copied().collect(), ..Typed::default() };
    let (result, output) = talk_to(serial, &mut Fake::<false>(0));
    assert_eq!(result, Ok(()));
    output
}

/// What the terminal shows from the n-th `> ` on, up to the next.
fn answer(output: &str, n: usize) -> &str {
    output.split("\r\n> ").nth(n + 1).unwrap_or_else(|| panic!("no answer {n} in {output}"))
}

/// The story as the runtime tells it, as a terminal wants it.
fn story(prompt: &str, options: SamplerOptions, seed: u64, tokens: usize) -> String {
    let model = Model::load(FILE).unwrap();
    let mut memory = Box::new(Memory::<BYTES>::new());
    let mut session = Session::new(&model, &mut *memory, OPTIONS).unwrap();
    session.prompt(prompt).unwrap();
    let mut sampler = Sampler::new(options, seed).unwrap();
    let mut generate = session.generate(&mut sampler);
    let text: String = generate.by_ref().take(tokens).map(|token| token.to_string()).collect();
    format!("{prompt}{text}{}\n", generate.flush()).replace('\n', "\r\n")
}

#[test]
fn a_typed_prompt_becomes_a_story_and_the_next_one_another() {
    let output = talk("Once upon a time\rOnce upon a time\r");
    for (n, seed) in [(0, 42), (1, 43)] {
        let want = story("Once upon a time", SamplerOptions::default(), seed, 256);
        let (text, figures) = answer(&output, n).split_at(want.len());
        assert_eq!(text, want);
        // A token is between two looks at the clock.
        assert!(figures.contains(" tokens, 2000.0 tokens/s"), "{figures}");
        assert!(figures.contains(&format!("seed {seed}]")), "{figures}");
    }
    assert_ne!(answer(&output, 0), answer(&output, 1));
}

#[test]
fn an_emulator_tells_instructions() {
    let serial = Typed { input: b"The cat\r".iter().copied().collect(), ..Typed::default() };
    let (_, output) = talk_to(serial, &mut Fake::<true>(0));
    assert!(output.contains(" tokens, 500 instructions each"), "{output}");
}

#[test]
fn the_greeting_says_what_is_taken() {
    let output = talk("");
    let total = BYTES.to_string();
    for part in [
        &format!("model    {} bytes of flash, context 128\r\n", FILE.len()),
        &format!("session  {total} bytes of RAM: "),
        "firmware 1111 bytes of flash besides the model, 2222 of RAM with the session, 3333 of stack so far\r\n",
    ] {
        assert!(output.contains(part), "{part} in {output}");
    }
    // The parts are the whole.
    let line = output.lines().find(|line| line.starts_with("session")).unwrap();
    let numbers: Vec<usize> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert_eq!(numbers[0], numbers[1..].iter().sum::<usize>(), "{line}");
}

#[test]
fn a_line_can_be_edited() {
    // Backspace takes characters, not bytes; arrow and function keys are no text; Ctrl-C begins anew.
    let typed = "x\x03The \u{1b}[A\u{1b}[15~\u{1b}OPdög\x7f\x7f\x08\x08 cat\r\n/settings\r\n";
    let output = talk(typed);
    let want = story("The cat", SamplerOptions::default(), 42, 256);
    let text = &want["The cat".len()..];
    let shown = answer(&output, 1);
    let begin = format!("The dög{} cat{text}[", "\x08 \x08".repeat(4));
    assert!(shown.starts_with(&begin), "{shown:?} is not {begin:?}");
    // Enter's line feed was no second line.
    assert!(answer(&output, 2).starts_with("/settings\r\ntemperature 0.800, top_p 0.900"), "{output}");
}

#[test]
fn a_line_that_is_full_or_no_text_is_refused() {
    let mut typed = "a".repeat(LONGEST_LINE + 2).into_bytes();
    typed.extend(b"\x03\xff\xfe\r");
    let output = talk(typed);
    assert!(output.contains(&format!("> {}\x07\x07^C", "a".repeat(LONGEST_LINE))), "{output}");
    assert!(output.contains("error: the line is not UTF-8\r\n"), "{output}");
}

#[test]
fn commands_change_how_stories_are_told() {
    let output = talk(
        "/temperature 0\r/top_p 0.5\r/top_k 3\r/seed 7\r/tokens 12\rThe dog\r/settings\r/memory\r/help\r",
    );
    let options = SamplerOptions { temperature: 0.0, top_p: 0.5, top_k: 3, ..SamplerOptions::default() };
    let want = story("The dog", options, 7, 12);
    assert!(answer(&output, 5).starts_with(&want), "{output}");
    assert!(answer(&output, 5).contains("; story 12 tokens, "), "{output}");
    let settings = "/settings\r\ntemperature 0.000, top_p 0.500, top_k 3, seed 8, tokens 12";
    assert_eq!(answer(&output, 6), settings);
    assert!(answer(&output, 7).starts_with("/memory\r\nmodel    "), "{output}");
    assert!(answer(&output, 8).contains("/top_p 0.9 "), "{output}");
}

#[test]
fn wrong_commands_say_what_is_wrong_and_change_nothing() {
    for (command, says) in [
        ("/temperature", "/temperature takes a number"),
        ("/temperature 3", "temperature is out of range"),
        ("/top_p 1.5", "top_p is out of range"),
        ("/top_p -1", "/top_p takes a number"),
        ("/seed x", "/seed takes a number"),
        ("/tokens 1.5", "/tokens takes a number"),
        ("/frobnicate 1", "no such command"),
    ] {
        let output = talk(format!("{command}\r/settings\r"));
        assert!(answer(&output, 0).contains(&format!("error: {says}")), "{command}: {output}");
        let settings = "/settings\r\ntemperature 0.800, top_p 0.900, top_k 0, seed 42, tokens 256";
        assert_eq!(answer(&output, 1), settings);
    }
}

#[test]
fn a_prompt_that_is_too_long_is_an_error_and_no_end() {
    let output = talk(format!("{}\rThe cat\r", "ox ".repeat(80)));
    assert!(answer(&output, 0).contains("error: "), "{output}");
    let want = story("The cat", SamplerOptions::default(), 42, 256);
    assert!(answer(&output, 1).starts_with(&want), "{output}");
}

#[test]
fn a_line_that_breaks_down_is_an_error_wherever_it_does() {
    let whole = talk("The cat\r").len();
    for limit in (0..whole).step_by(7) {
        let serial = Typed {
            input: b"The cat\r".iter().copied().collect(),
            breaks_after: Some(limit),
            ..Typed::default()
        };
        let (result, _) = talk_to(serial, &mut Fake::<false>(0));
        assert_eq!(result, Err(ConsoleError::Serial(ErrorKind::ConnectionReset)), "{limit} of {whole}");
    }
}

#[test]
fn what_is_no_model_is_told() {
    let mut serial = Typed::default();
    let mut memory = Box::new(Memory::<BYTES>::new());
    let cut = &FILE[..FILE.len() - 64];
    let result = serve(cut, (*memory).as_mut(), OPTIONS, &mut serial, &mut Fake::<false>(0));
    assert!(matches!(result, Err(ConsoleError::Load(_))));
    assert!(serial.output.starts_with(b"error: truncated: needs"));
    let mut serial = Typed::default();
    let result = serve(FILE, &mut [0; 64], OPTIONS, &mut serial, &mut Fake::<false>(0));
    assert!(matches!(result, Err(ConsoleError::Session(_))));
    assert!(serial.output.starts_with(b"error: the session needs"));
}

#[test]
fn decimals_are_what_the_standard_library_reads() {
    for text in ["0", "1", "0.8", "0.85", "1.999999", "2.", "0000000", "123456.7"] {
        assert_eq!(decimal(text), text.parse().ok(), "{text}");
    }
    for text in ["", ".", "-1", "1e3", "0.12345678", "1.x", "0,5"] {
        assert_eq!(decimal(text), None, "{text}");
    }
    assert_eq!(Thousandths(0.95).to_string(), "0.950");
    assert_eq!(Thousandths(1.9996).to_string(), "2.000");
}

#[cfg(feature = "hot")]
#[test]
fn a_model_with_copies_in_ram_tells_the_same_and_how_large_they_are() {
    use smidgen_console::{Stored, hot};
    const HOT: usize = hot(FILE, Some("60000"));
    const NONE: usize = hot(FILE, None);
    let serve_with = |hot: &mut [u8]| {
        let mut serial =
            Typed { input: b"/tokens 20\rThe cat\r".iter().copied().collect(), ..Typed::default() };
        let mut memory = Box::new(Memory::<BYTES>::new());
        let stored = Stored::with_hot(FILE, hot);
        let result = serve(stored, (*memory).as_mut(), OPTIONS, &mut serial, &mut Fake::<false>(0));
        (result, String::from_utf8_lossy(&serial.output).into_owned())
    };
    let plain = talk("/tokens 20\rThe cat\r");
    assert_eq!(serve_with(Memory::<NONE>::new().as_mut()), (Ok(()), plain.clone()));
    let (result, hot) = serve_with(Memory::<HOT>::new().as_mut());
    assert_eq!(result, Ok(()));
    let (_, told) = hot.split_once(" bytes of flash, ").unwrap();
    let (copied, _) = told.split_once(" of them in RAM too, ").unwrap();
    let copied: usize = copied.parse().unwrap();
    assert!(copied > 50_000 && copied < HOT, "{copied}");
    assert_eq!(hot.replace(&format!("{copied} of them in RAM too, "), ""), plain);
    let (result, refused) = serve_with(&mut [0; 100]);
    assert!(matches!(result, Err(ConsoleError::Hot(_))) && refused.contains("100 were given"), "{refused}");
}
