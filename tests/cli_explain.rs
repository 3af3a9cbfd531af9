//! `smidgen explain` through the program itself.

mod common;

use std::fs;
use std::path::Path;

use common::{Aligned, fails, stdout, tiny_model};
use serde_json::Value;
use smidgen_runtime::config::Architecture;
use smidgen_runtime::format::DType;
use smidgen_runtime::{Memory, Model, Session, SessionOptions};

fn page(directory: &Path, arguments: &[&str]) -> String {
    let text = String::from_utf8(stdout(directory, &[&["explain"], arguments].concat())).unwrap();
    for line in text.lines() {
        assert!(line.chars().count() <= 80 && line.trim_end() == line, "{line:?}");
    }
    text
}

fn json(directory: &Path, arguments: &[&str]) -> Value {
    serde_json::from_slice(&stdout(directory, &[&["explain", "--json"], arguments].concat())).unwrap()
}

/// The words of the table's row that begins with this one.
fn row<'t>(page: &'t str, table: &str, first: &str) -> Vec<&'t str> {
    let rows = page.lines().skip_while(|line| !line.contains(table));
    let words = rows.map(|line| line.split_whitespace().collect::<Vec<_>>());
    words.into_iter().find(|words| words.first() == Some(&first)).expect("the row is there")
}

#[test]
fn logits_of_ones_own_get_the_numbers_of_the_textbook() {
    let directory = tempfile::tempdir().unwrap();
    let text = page(directory.path(), &["--logits", "3.2,1.3,-2.1"]);
    assert_eq!(row(&text, "e^logit  ", "0")[3..], ["86.6", "%", "0.14"]);
    assert_eq!(row(&text, "e^logit  ", "1")[3..5], ["13.0", "%"]);
    assert_eq!(row(&text, "e^logit  ", "2")[3..5], ["0.4", "%"]);
    assert!(text.contains("-0.134") && text.contains("+0.130"), "{text}");

    let ln: Vec<String> = [0.4_f64, 0.3, 0.2, 0.1].iter().map(|p| p.ln().to_string()).collect();
    let logits = ln.join(",");
    for (temperature, want) in
        [("0.5", ["53.3", "30.0", "13.3", "3.3"]), ("2", ["32.5", "28.2", "23.0", "16.3"])]
    {
        let more = ["--logits", &logits, "--temperature", temperature, "--top-p", "1"];
        let text = page(directory.path(), &more);
        for (token, want) in ["0", "1", "2", "3"].iter().zip(want) {
            assert_eq!(row(&text, "temperature  ", token)[3], want, "temperature {temperature}\n{text}");
        }
    }
    // The lowest value first, and huge ones: neither is a flag, neither breaks the columns.
    page(directory.path(), &["--logits", "-1e300,1e300,0"]);
    page(directory.path(), &["--logits", "0", "--temperature", "0"]);
}

#[test]
fn without_a_model_characters_are_tokens() {
    let directory = tempfile::tempdir().unwrap();
    let text = page(directory.path(), &["Hé\n👍x"]);
    for part in ["every\ncharacter is one token", "\"é\"", "233", "\"\\n\"", "128077", "4 exercises"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    let report = json(directory.path(), &["aba"]);
    let pair = |i: usize| (&report["pairs"][i]["input"], &report["pairs"][i]["target"]["id"]);
    assert_eq!(pair(0), (&Value::from("a"), &Value::from(98)));
    assert_eq!(pair(1), (&Value::from("ab"), &Value::from(97)));
    assert_eq!(report["pairs"].as_array().unwrap().len(), 2);
    assert!(page(directory.path(), &["x"]).contains("One token alone teaches nothing"));
    // A long text is cut on the page and whole in JSON.
    let long = "0123456789".repeat(10);
    assert!(page(directory.path(), &[&long]).contains("and 76 more"));
    assert_eq!(json(directory.path(), &[&long])["pairs"].as_array().unwrap().len(), 99);
}

#[test]
fn losses_are_those_of_the_models_logits() {
    let directory = tempfile::tempdir().unwrap();
    let file = tiny_model(Architecture::Llama, DType::Q8, 3);
    fs::write(directory.path().join("m.smidgen"), &file).unwrap();
    // More than a block of 64 would be more than the context; both sides of a block are elsewhere
    // tested. Here: every place against a session of our own, token by token.
    let text = "the thermometer, then the theatre; and other things.";
    let report = json(directory.path(), &[text, "--model", "m.smidgen", "--top", "260", "--top-p", "0.5"]);
    let ids: Vec<u32> =
        report["tokens"].as_array().unwrap().iter().map(|t| t["id"].as_u64().unwrap() as u32).collect();
    assert_eq!(ids[..3], [common::BEGIN, common::THE, u32::from(b' ')]);

    let file = Aligned::new(&file);
    let model = Model::load(&file).unwrap();
    let mut memory = Memory::<100_000>::new();
    let mut session = Session::new(&model, &mut memory, SessionOptions::new(ids.len())).unwrap();
    let mut sum = 0.0;
    for (place, pair) in ids.windows(2).enumerate() {
        let logits = session.step(pair[0]).unwrap();
        let total: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
        let loss = total.ln() - f64::from(logits[pair[1] as usize]);
        let told = &report["pairs"][place];
        let told_loss = told["score"]["loss"].as_f64().unwrap();
        assert!((told_loss - loss).abs() < 1e-9, "place {place}: {told_loss} is not {loss}");
        let slope = told["score"]["slope_of_target"].as_f64().unwrap();
        assert!((slope - ((-loss).exp() - 1.0)).abs() < 1e-9);
        sum += loss;
    }
    let mean = report["mean_loss"].as_f64().unwrap();
    assert!((mean - sum / (ids.len() - 1) as f64).abs() < 1e-9);

    // All of the vocabulary was asked for, so each column adds up to one.
    let next = &report["next"];
    for column in ["softmax", "with_temperature", "with_top_p"] {
        let sum: f64 =
            next["candidates"].as_array().unwrap().iter().map(|c| c[column].as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-9, "{column}: {sum}");
    }
    let kept = next["kept"].as_u64().unwrap();
    assert!((1..260).contains(&kept), "{kept}");

    let text = page(directory.path(), &[text, "--model", "m.smidgen"]);
    for part in ["tiny sees this text", "<s>", "Mean loss", "the 252 others"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    // Nothing at all is what a text begins with.
    let empty = json(directory.path(), &["", "--model", "m.smidgen"]);
    assert_eq!(empty["tokens"].as_array().unwrap().len(), 1);
}

#[test]
fn wrong_flags_are_named_with_their_numbers() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("m.smidgen"), tiny_model(Architecture::Gpt2, DType::F16, 3)).unwrap();
    let check = |arguments: &[&str], code, parts: &[&str]| {
        fails(directory.path(), &[&["explain"], arguments].concat(), code, parts);
    };
    check(&[""], 1, &["empty"]);
    check(&["a", "--temperature", "3"], 1, &["--temperature", "3", "between 0 and 2"]);
    check(&["a", "--top-p", "-1"], 1, &["--top-p", "-1"]);
    check(&["--logits", "1,NaN"], 1, &["--logits", "number 2", "NaN"]);
    check(&["--logits", "1,inf"], 1, &["--logits", "number 2", "inf"]);
    check(&["a", "--model", "absent"], 1, &["absent"]);
    check(&[&"x".repeat(70), "--model", "m.smidgen"], 1, &["71 tokens", "m.smidgen", "1 to 64"]);
    check(&["--logits", "1,two"], 2, &["--logits", "two"]);
    check(&["a", "--logits", "1"], 2, &["--logits"]);
    check(&[], 2, &["TEXT"]);
}
