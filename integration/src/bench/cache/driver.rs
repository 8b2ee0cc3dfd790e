//! cmd/go's side of GOCACHEPROG, to fill any cache program and to time what it answers.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::native_cache::Entry;

/// A cache program that runs, and is asked one thing at a time. Killed when dropped without a [`Driver::close`].
#[derive(Debug)]
pub struct Driver {
    child: Child,
    /// Until it is closed.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    last_id: u64,
}

impl Driver {
    /// Starts one. What it writes on standard error goes nowhere.
    ///
    /// # Errors
    /// When it cannot be started or does not say what it can do.
    pub fn start(mut program: Command) -> anyhow::Result<Self> {
        let mut child = program
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("{} cannot be started", program.get_program().display()))?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().context("a pipe")?);
        let mut driver = Self { child, input, output, last_id: 0 };
        let hello = driver.answer()?;
        ensure!(hello["KnownCommands"].is_array(), "a cache program began with {hello}");
        Ok(driver)
    }

    /// Gives it an entry.
    ///
    /// # Errors
    /// When it does not take it.
    pub fn put(&mut self, entry: &Entry) -> anyhow::Result<()> {
        self.last_id += 1;
        let (action, output) = (STANDARD.encode(entry.action), STANDARD.encode(entry.output));
        let mut text = format!(
            "{{\"ID\":{},\"Command\":\"put\",\"ActionID\":\"{action}\",\"OutputID\":\"{output}\",\"BodySize\":{}}}\n",
            self.last_id, entry.size
        );
        if entry.size > 0 {
            text.push('"');
            STANDARD.encode_string(fs::read(&entry.body)?, &mut text);
            text.push_str("\"\n");
        }
        let answer = self.exchange(&text)?;
        ensure!(answer["Err"].as_str().unwrap_or_default().is_empty(), "a put was answered {answer}");
        Ok(())
    }

    /// Asks for an entry: where it is, and how long the answer took. `None` for a miss.
    ///
    /// # Errors
    /// When there is no answer, or one with another output.
    pub fn get(&mut self, entry: &Entry) -> anyhow::Result<Option<(PathBuf, Duration)>> {
        let asked = Instant::now();
        let found = self.get_any(entry)?;
        let took = asked.elapsed();
        let Some((output, path)) = found else { return Ok(None) };
        let named = entry.body.display();
        ensure!(output == entry.output, "a get of {named} was answered with another output");
        Ok(Some((path, took)))
    }

    /// Asks for an entry's action: which output answers it, whatever it is, and where that is. `None` for a miss.
    ///
    /// # Errors
    /// When there is no answer, or one that cannot be read.
    pub fn get_any(&mut self, entry: &Entry) -> anyhow::Result<Option<([u8; 32], PathBuf)>> {
        self.last_id += 1;
        let action = STANDARD.encode(entry.action);
        let text = format!("{{\"ID\":{},\"Command\":\"get\",\"ActionID\":\"{action}\"}}\n", self.last_id);
        let answer = self.exchange(&text)?;
        if answer["Miss"] == true {
            return Ok(None);
        }
        let output = STANDARD.decode(answer["OutputID"].as_str().unwrap_or_default())?;
        let output = output.try_into().ok().context("an output of another length")?;
        Ok(answer["DiskPath"].as_str().map(|path| (output, PathBuf::from(path))))
    }

    /// Ends it in order.
    ///
    /// # Errors
    /// When it does not answer, or ends with a failure.
    pub fn close(mut self) -> anyhow::Result<()> {
        self.last_id += 1;
        self.exchange(&format!("{{\"ID\":{},\"Command\":\"close\"}}\n", self.last_id))?;
        // As cmd/go does: some end only then.
        drop(self.input.take());
        let status = self.child.wait()?;
        ensure!(status.success(), "a cache program ended with {status}");
        Ok(())
    }

    fn exchange(&mut self, text: &str) -> anyhow::Result<Value> {
        self.input.as_mut().context("it is closed")?.write_all(text.as_bytes())?;
        let answer = self.answer()?;
        ensure!(answer["ID"] == self.last_id, "nobody asked for {answer}");
        Ok(answer)
    }

    fn answer(&mut self) -> anyhow::Result<Value> {
        let mut line = String::new();
        let read = self.output.read_line(&mut line)?;
        ensure!(read > 0, "a cache program ended before it answered");
        serde_json::from_str(&line).with_context(|| format!("a cache program said {line:?}"))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Ended already, unless something went wrong.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
