//! The explanation as a page of 80 columns.

use std::fmt::Write;

use super::{Explanation, Next, Pair};

/// Rows of a table before it is cut.
const ROWS: usize = 24;

/// A token's bytes as people read them: in quotes with line breaks and the like made visible, or
/// as hexadecimal numbers if they are a part of a character only.
pub(super) fn quoted(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            let mut shown = String::from("\"");
            for c in text.chars() {
                if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
            }
            shown + "\""
        }
        Err(_) => {
            let hex: Vec<_> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
            format!("<{}>", hex.join(" "))
        }
    }
}

/// Columns that a character takes in a terminal: two for East Asian ones and pictures, none for
/// marks that stand on another.
fn columns_of(c: char) -> usize {
    match u32::from(c) {
        0x300..=0x36F | 0x200B..=0x200F | 0xFE00..=0xFE0F => 0,
        0x1100..=0x115F
        | 0x2E80..=0xA4CF
        | 0xAC00..=0xD7A3
        | 0xF900..=0xFAFF
        | 0xFE30..=0xFE6F
        | 0xFF00..=0xFF60
        | 0xFFE0..=0xFFE6
        | 0x1F300..=0x1FAFF
        | 0x20000..=0x3FFFD => 2,
        _ => 1,
    }
}

fn width(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

/// The text in exactly so many columns: filled with spaces, or its end cut off.
fn left(text: &str, columns: usize) -> String {
    let mut shown = String::from(text);
    if width(text) > columns {
        while width(&shown) >= columns {
            shown.pop();
        }
        shown.push('…');
    }
    let fill = columns - width(&shown);
    shown + &" ".repeat(fill)
}

/// The end of a text in quotes in exactly so many columns: what was read last matters most.
fn tail(text: &str, columns: usize) -> String {
    let mut shown = quoted(text.as_bytes());
    if width(&shown) > columns {
        while width(&shown) >= columns {
            shown.remove(0);
        }
        shown.insert(0, '…');
    }
    left(&shown, columns)
}

fn percent(p: f64) -> String {
    match p * 100.0 {
        0.0 => "–".into(),
        percent if percent >= 0.1 => format!("{percent:.1} %"),
        percent if percent >= 0.01 => format!("{percent:.2} %"),
        _ => "< 0.01 %".into(),
    }
}

/// A number that may be huge.
fn number(x: f64) -> String {
    if x.abs() < 1e6 && (x.abs() >= 0.005 || x == 0.0) { format!("{x:.2}") } else { format!("{x:.1e}") }
}

/// The page for a text. Writing to a `String` cannot fail.
pub(super) fn of_text(explanation: &Explanation) -> String {
    let mut out = String::new();
    let _ = write_text(&mut out, explanation);
    out
}

fn write_text(out: &mut String, explanation: &Explanation) -> std::fmt::Result {
    let tokens = &explanation.tokens;
    writeln!(out, "1. Tokens\n")?;
    match &explanation.model {
        Some(name) => writeln!(
            out,
            "A model does not see letters. It cuts a text into tokens, and each token is\n\
             a number from a list that was fixed before the model was trained.\n\
             {name} sees this text as {}.\n",
            count(tokens.len(), "token")
        )?,
        None => writeln!(
            out,
            "A model does not see letters but tokens, and each token is a number. Here every\n\
             character is one token, and its number is the character's in Unicode: this text\n\
             has {}. (A model's own tokens are often whole words: try --model FILE.)\n",
            tokens.len()
        )?,
    }
    writeln!(out, "place  {} {:>9}", left("token", 24), "number")?;
    for (place, token) in tokens.iter().enumerate().take(ROWS) {
        writeln!(out, "{:>5}  {} {:>9}", place + 1, left(&token.text, 24), token.id)?;
    }
    write_rest(out, tokens.len())?;

    writeln!(out, "\n2. What there is to learn\n")?;
    if explanation.pairs.is_empty() {
        writeln!(out, "One token alone teaches nothing: there is none after it to guess.")?;
    } else if explanation.model.is_some() {
        write_scores(out, explanation)?;
    } else {
        write_pairs(out, &explanation.pairs)?;
    }

    if let Some(next) = &explanation.next {
        writeln!(out, "\n3. What comes next?\n")?;
        write_next(out, next)?;
    }
    Ok(())
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn write_rest(out: &mut String, rows: usize) -> std::fmt::Result {
    if rows > ROWS { writeln!(out, "    …  and {} more (--json has all)", rows - ROWS) } else { Ok(()) }
}

fn write_pairs(out: &mut String, pairs: &[Pair]) -> std::fmt::Result {
    writeln!(
        out,
        "At every place the model reads what came so far and guesses what comes next. The\n\
         text itself knows the answer, so it is its own teacher: {}.\n",
        count(pairs.len(), "exercise")
    )?;
    writeln!(out, "place  {}    and guess", left("read", 50))?;
    for (place, pair) in pairs.iter().enumerate().take(ROWS) {
        writeln!(
            out,
            "{:>5}  {} →  {}",
            place + 1,
            tail(&pair.input, 50),
            left(&pair.target.text, 18).trim_end()
        )?;
    }
    write_rest(out, pairs.len())
}

fn write_scores(out: &mut String, explanation: &Explanation) -> std::fmt::Result {
    writeln!(
        out,
        "At every place the model reads what came so far and gives each of its tokens a\n\
         probability p of coming next. Its loss is −ln p of the token that really came:\n\
         0 if it was certain of it, 0.69 for p = 50 %, 4.6 for p = 1 %.\n\
         Training changes each logit against p − y, where y is 1 for the token that came\n\
         and 0 for all others: up where it is negative, down where it is positive. The\n\
         last two columns are the one that goes up and the one that goes down most.\n"
    )?;
    writeln!(
        out,
        "place  {}    {} {:>8} {:>6} {:>6}  down",
        left("read", 17),
        left("came", 12),
        "p",
        "loss",
        "up",
    )?;
    let scored = explanation.pairs.iter().filter_map(|pair| Some((pair, pair.score.as_ref()?)));
    for (place, (pair, score)) in scored.enumerate().take(ROWS) {
        // The token that begins every text is no text itself.
        let read = match pair.input.as_str() {
            "" => left(&explanation.tokens[0].text, 17),
            input => tail(input, 17),
        };
        let row = format!(
            "{:>5}  {read} →  {} {:>8} {:>6.2} {:>+6.2}  {:>+5.2} {}",
            place + 1,
            left(&pair.target.text, 12),
            percent(score.probability),
            score.loss,
            score.slope_of_target,
            score.slope_of_rival,
            left(&score.rival.text, 11),
        );
        writeln!(out, "{}", row.trim_end())?;
    }
    write_rest(out, explanation.pairs.len())?;
    if let Some(mean) = explanation.mean_loss {
        writeln!(
            out,
            "\nMean loss {mean:.3} nats a token: as unsure as somebody who has to choose among\n\
             {:.1} tokens that are equally likely (e^{mean:.3}, the perplexity).",
            mean.exp()
        )?;
    }
    Ok(())
}

fn write_next(out: &mut String, next: &Next) -> std::fmt::Result {
    writeln!(
        out,
        "The model ends in one number for each of its {} tokens, the logit. Softmax\n\
         makes probabilities of them: e^logit, divided by the sum of all e^logit.\n\
         Temperature {} divides the logits first{}.\n\
         Top-p {} then keeps the fewest most probable tokens that together reach {}\n\
         and shares the whole among them: here {}.\n",
        next.vocab_size,
        next.temperature,
        effect(next.temperature),
        next.top_p,
        percent(next.top_p),
        count(next.kept, "token"),
    )?;
    writeln!(
        out,
        "{} {:>9} {:>8} {:>9} {:>13} {:>11}",
        left("token", 20),
        "number",
        "logit",
        "softmax",
        "temperature",
        "top-p"
    )?;
    let row = |out: &mut String, name: &str, id: &str, logit: &str, p: [f64; 3]| {
        let [softmax, temperature, top_p] = p.map(percent);
        writeln!(out, "{} {id:>9} {logit:>8} {softmax:>9} {temperature:>13} {top_p:>11}", left(name, 20))
    };
    for one in &next.candidates {
        let p = [one.softmax, one.with_temperature, one.with_top_p];
        row(out, &one.token.text, &one.token.id.to_string(), &number(one.logit), p)?;
    }
    let others = next.vocab_size - next.candidates.len();
    if others > 0 {
        let rest = |of: fn(&super::Candidate) -> f64| {
            let rest = 1.0 - next.candidates.iter().map(of).sum::<f64>();
            // What is left of rounding is nothing.
            if rest < 1e-9 { 0.0 } else { rest }
        };
        let p = [rest(|one| one.softmax), rest(|one| one.with_temperature), rest(|one| one.with_top_p)];
        row(out, &format!("the {others} others"), "", "", p)?;
    }
    writeln!(out, "\nThe next token is drawn with the probabilities of the last column.")
}

fn effect(temperature: f64) -> &'static str {
    match temperature {
        0.0 => ": at 0 the largest takes all",
        t if t < 1.0 => ": below 1, the likely grow likelier",
        t if t > 1.0 => ": above 1, all grow more alike",
        _ => ": 1 changes nothing",
    }
}

/// The page for logits alone. Writing to a `String` cannot fail.
pub(super) fn of_logits(explanation: &Explanation) -> String {
    let mut out = String::new();
    if let Some(next) = &explanation.next {
        let _ = write_logits(&mut out, next);
    }
    out
}

fn write_logits(out: &mut String, next: &Next) -> std::fmt::Result {
    writeln!(
        out,
        "Softmax makes probabilities p of logits: e^logit, divided by the sum of all\n\
         e^logit. If a token is what really came, the loss is −ln p of it.\n"
    )?;
    writeln!(
        out,
        "{:>6} {:>10} {:>12} {:>10} {:>14}",
        "token", "logit", "e^logit", "softmax", "loss if true"
    )?;
    let mut in_order: Vec<_> = next.candidates.iter().collect();
    in_order.sort_by_key(|one| one.token.id);
    for one in &in_order {
        writeln!(
            out,
            "{:>6} {:>10} {:>12} {:>10} {:>14}",
            one.token.text,
            number(one.logit),
            number(one.logit.exp()),
            percent(one.softmax),
            format!("{:.2}", one.loss_if_true),
        )?;
    }
    let sum: f64 = in_order.iter().map(|one| one.logit.exp()).sum();
    writeln!(out, "{:>6} {:>10} {:>12} {:>10}\n", "sum", "", number(sum), percent(1.0))?;

    writeln!(
        out,
        "If token 0 is what really came, training changes each logit against p − y (y is\n\
         1 for token 0, 0 for the others): up where it is negative, down where positive.\n"
    )?;
    for one in in_order.iter().take(ROWS) {
        let slope = one.softmax - if one.token.id == 0 { 1.0 } else { 0.0 };
        writeln!(out, "{:>6} {:>+10.3}", one.token.text, slope)?;
    }
    write_rest(out, in_order.len())?;

    writeln!(
        out,
        "\nTemperature {} divides the logits first{}.\n\
         Top-p {} then keeps the fewest most probable that together reach {}.\n",
        next.temperature,
        effect(next.temperature),
        next.top_p,
        percent(next.top_p)
    )?;
    writeln!(out, "{:>6} {:>10} {:>13} {:>11}", "token", "softmax", "temperature", "top-p")?;
    for one in &in_order {
        writeln!(
            out,
            "{:>6} {:>10} {:>13} {:>11}",
            one.token.text,
            percent(one.softmax),
            percent(one.with_temperature),
            percent(one.with_top_p)
        )?;
    }
    Ok(())
}
