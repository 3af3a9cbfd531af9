//! The console itself: reads lines, tells stories.

use core::fmt::{self, Display};

use embedded_io::{Read, Write};
#[cfg(feature = "hot")]
use smidgen_runtime::HotError;
use smidgen_runtime::{Finish, Layout, LoadError, Model, Sampler, Session, SessionError, SessionOptions};
#[cfg(feature = "workers")]
use smidgen_runtime::{Level, Workers};

use crate::board::{Board, Unit};
use crate::command::{Command, HELP};
use crate::decimal::Thousandths;
use crate::line::{Edit, Line};
use crate::settings::Settings;
use crate::stored::Stored;
use crate::terminal::Terminal;

/// Why there is no console (any more).
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ConsoleError<E> {
    /// The model can't be loaded.
    Load(LoadError),
    /// There is memory for copies of its tensors, and none fits.
    #[cfg(feature = "hot")]
    Hot(HotError),
    /// The session can't begin.
    Session(SessionError),
    /// The serial line failed.
    Serial(E),
}

/// Loads a model (its file's bytes, or [`Stored`]) and talks over `serial` until Ctrl-D or its end.
///
/// # Errors
/// What is wrong with the model or the memory, which the terminal was told too, or with the line.
pub fn serve<'m, S: Read + Write>(
    model: impl Into<Stored<'m>>,
    memory: &mut [u8],
    options: SessionOptions,
    serial: &mut S,
    board: &mut impl Board,
) -> Result<(), ConsoleError<S::Error>> {
    let stored = model.into();
    let file_bytes = stored.file.len();
    let model = load(stored, serial)?;
    let session = Session::new(&model, memory, options);
    talk(session, file_bytes, serial, board)
}

/// The same with other cores.
///
/// # Errors
/// As for [`serve`].
#[cfg(feature = "workers")]
pub fn serve_with<'m, S: Read + Write>(
    workers: &dyn Workers,
    model: impl Into<Stored<'m>>,
    memory: &mut [u8],
    options: SessionOptions,
    serial: &mut S,
    board: &mut impl Board,
) -> Result<(), ConsoleError<S::Error>> {
    let stored = model.into();
    let file_bytes = stored.file.len();
    let model = load(stored, serial)?;
    let session = Session::with_workers(&model, memory, options, Level::detect(), workers);
    talk(session, file_bytes, serial, board)
}

fn load<'f, S: Write>(stored: Stored<'f>, serial: &mut S) -> Result<Model<'f>, ConsoleError<S::Error>> {
    let mut terminal = Terminal::new(serial);
    let model = match Model::load(stored.file) {
        Ok(model) => model,
        Err(error) => {
            terminal.print(format_args!("error: {error}\n")).map_err(ConsoleError::Serial)?;
            return Err(ConsoleError::Load(error));
        }
    };
    #[cfg(feature = "hot")]
    if !stored.hot.is_empty() {
        return match model.with_hot(stored.hot) {
            Ok(model) => Ok(model),
            Err(error) => {
                terminal.print(format_args!("error: {error}\n")).map_err(ConsoleError::Serial)?;
                Err(ConsoleError::Hot(error))
            }
        };
    }
    Ok(model)
}

fn talk<S: Read + Write>(
    session: Result<Session<'_>, SessionError>,
    file_bytes: usize,
    serial: &mut S,
    board: &mut impl Board,
) -> Result<(), ConsoleError<S::Error>> {
    let mut session = match session {
        Ok(session) => session,
        Err(error) => {
            Terminal::new(serial).print(format_args!("error: {error}\n")).map_err(ConsoleError::Serial)?;
            return Err(ConsoleError::Session(error));
        }
    };
    Console::new(file_bytes, serial, board).run(&mut session).map_err(ConsoleError::Serial)
}

/// A terminal on one side, a session on the other.
#[derive(Debug)]
pub struct Console<'a, S, B> {
    model_bytes: usize,
    serial: &'a mut S,
    board: &'a mut B,
    line: Line,
    settings: Settings,
}

impl<'a, S: Read + Write, B: Board> Console<'a, S, B> {
    /// A console for a model of so many bytes.
    pub fn new(model_bytes: usize, serial: &'a mut S, board: &'a mut B) -> Self {
        Self { model_bytes, serial, board, line: Line::new(), settings: Settings::default() }
    }

    /// Greets, then reads lines and answers them until Ctrl-D or the end of the input.
    ///
    /// # Errors
    /// The serial line's. After one the console can run again.
    pub fn run(&mut self, session: &mut Session<'_>) -> Result<(), S::Error> {
        self.show_memory(session)?;
        self.print("Type how a story begins, then Enter. /help lists commands.\n")?;
        loop {
            self.line.clear();
            self.print("> ")?;
            if !self.read_line()? {
                return self.print("\n");
            }
            let line = core::mem::take(&mut self.line);
            match line.text() {
                None => self.print("\nerror: the line is not UTF-8\n")?,
                Some(text) if text.starts_with('/') => self.obey(text, session)?,
                Some(text) => self.tell(text, session)?,
            }
            self.line = line;
        }
    }

    fn print(&mut self, text: impl Display) -> Result<(), S::Error> {
        Terminal::new(&mut *self.serial).print(text)
    }

    /// False at the end.
    fn read_line(&mut self) -> Result<bool, S::Error> {
        let mut byte = [0];
        loop {
            if self.serial.read(&mut byte)? == 0 {
                return Ok(false);
            }
            let echo: &[u8] = match self.line.push(byte[0]) {
                Edit::Ignored => continue,
                Edit::Typed => &byte,
                Edit::Erased => b"\x08 \x08",
                Edit::Full => b"\x07",
                Edit::Cleared => b"^C\r\n> ",
                Edit::Done => return Ok(true),
                Edit::Left => return Ok(false),
            };
            Terminal::new(&mut *self.serial).raw(echo)?;
        }
    }

    fn obey(&mut self, line: &str, session: &Session<'_>) -> Result<(), S::Error> {
        self.print("\n")?;
        match Command::obey(line, &mut self.settings) {
            Ok(Command::Set) => Ok(()),
            Ok(Command::Memory) => self.show_memory(session),
            Ok(Command::Settings) => self.print(self.settings),
            Ok(Command::Help) => self.print(HELP),
            Err(error) => self.print(format_args!("error: {error}\n")),
        }
    }

    /// Goes on with the text that the terminal shows already.
    fn tell(&mut self, prompt: &str, session: &mut Session<'_>) -> Result<(), S::Error> {
        session.rewind(0);
        let begin = self.board.now();
        if let Err(error) = session.prompt(prompt) {
            return self.print(format_args!("\nerror: {error}\n"));
        }
        let prompt_tokens = session.position();
        let prompt = self.board.now().wrapping_sub(begin);
        // Commands let nothing else into the settings.
        let Ok(mut sampler) = Sampler::new(self.settings.sampler, self.settings.seed) else {
            return self.print("\nerror: a setting is out of range\n");
        };
        let mut generate = session.generate(&mut sampler);
        let mut story = Pace { tokens: 0, spent: 0, unit: B::UNIT };
        while story.tokens < self.settings.tokens {
            let begin = self.board.now();
            let Some(generated) = generate.next() else { break };
            story.spent += self.board.now().wrapping_sub(begin);
            story.tokens += 1;
            self.print(generated)?;
        }
        let rest = generate.flush();
        let end = match generate.finish() {
            None => "",
            Some(Finish::EndOfText) => ", end of text",
            Some(Finish::ContextFull) => ", context full",
            Some(_) => ", no logit is a finite number",
        };
        let prompt = Pace { tokens: prompt_tokens, spent: prompt, unit: B::UNIT };
        let seed = self.settings.seed;
        self.settings.seed = seed.wrapping_add(1);
        self.print(format_args!("{rest}\n[prompt {prompt}; story {story}{end}; seed {seed}]\n"))
    }

    fn show_memory(&mut self, session: &Session<'_>) -> Result<(), S::Error> {
        #[cfg(feature = "hot")]
        let copied = session.model().hot_bytes();
        #[cfg(not(feature = "hot"))]
        let copied = 0;
        self.print(Sizes { model_bytes: self.model_bytes, copied, layout: session.layout() })?;
        let Some(usage) = self.board.usage() else { return Ok(()) };
        let (flash, statics) = (usage.flash_bytes(), usage.ram_static_bytes);
        self.print(format_args!(
            "firmware {flash} bytes of flash besides the model, {statics} of RAM with the session"
        ))?;
        match usage.stack_bytes {
            Some(stack) => self.print(format_args!(", {stack} of stack so far\n")),
            None => self.print("\n"),
        }
    }
}

/// Tokens, and the time or work that they took.
struct Pace {
    tokens: usize,
    spent: u64,
    unit: Unit,
}

impl Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tokens = self.tokens as u64;
        write!(f, "{tokens} tokens")?;
        match self.unit {
            Unit::Instructions => match self.spent.checked_div(tokens) {
                Some(each) => write!(f, ", {each} instructions each"),
                None => Ok(()),
            },
            Unit::Microseconds => match tokens.saturating_mul(10_000_000).checked_div(self.spent) {
                Some(tenths) => write!(f, ", {}.{} tokens/s", tenths / 10, tenths % 10),
                None => Ok(()),
            },
        }
    }
}

/// What model and session take, part by part as `smidgen plan` lists them.
struct Sizes<'a> {
    model_bytes: usize,
    /// Of those, in RAM too.
    copied: usize,
    layout: &'a Layout,
}

impl Display for Sizes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model_bytes, copied, layout } = self;
        let (kv, logits, tokens) = (layout.kv_bytes(), 4 * layout.logits, 4 * layout.tokens);
        let activations = layout.total.saturating_sub(kv + logits + tokens);
        write!(f, "model    {model_bytes} bytes of flash, ")?;
        if *copied > 0 {
            write!(f, "{copied} of them in RAM too, ")?;
        }
        writeln!(f, "context {}", layout.tokens)?;
        writeln!(
            f,
            "session  {} bytes of RAM: {kv} for keys and values, {logits} for logits, {tokens} for tokens, \
             {activations} for activations",
            layout.total
        )
    }
}

impl Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (temperature, top_p) = (Thousandths(self.sampler.temperature), Thousandths(self.sampler.top_p));
        writeln!(
            f,
            "temperature {temperature}, top_p {top_p}, top_k {}, seed {}, tokens {}",
            self.sampler.top_k, self.seed, self.tokens
        )
    }
}
