//! Other people's servers in Python: `tests/python/requirements.txt`, in an environment of their own beside the other things that tests make.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::root;
use crate::stage::PATIENCE;

/// The interpreter that has the packages. None where it cannot be made, which is said; where TOLLGATE_TEST_PYTHON is set it must be.
fn interpreter() -> Option<PathBuf> {
    // Beside the other things that tests make: target/PROFILE/deps/TEST is who runs.
    let program = std::env::current_exe().expect("the test's own program");
    let is_target = |folder: &&Path| folder.join("CACHEDIR.TAG").exists();
    let target = program
        .ancestors()
        .find(is_target)
        .map_or_else(std::env::temp_dir, Path::to_owned);
    match made(&target.join("python")) {
        Ok(interpreter) => Some(interpreter),
        Err(why) => {
            let must = std::env::var_os("TOLLGATE_TEST_PYTHON").is_some();
            assert!(
                !must,
                "TOLLGATE_TEST_PYTHON is set, and tests/python cannot be installed: {why}"
            );
            let skipped = format!("SKIPPED: tests/python/requirements.txt cannot be installed here: {why}\n");
            let _ = std::io::stderr().write_all(skipped.as_bytes());
            None
        }
    }
}

/// Tests are processes: one makes it, the others wait.
fn made(place: &Path) -> Result<PathBuf, String> {
    let wanted = root().join("tests/python/requirements.txt");
    let wanted = std::fs::read_to_string(wanted).map_err(|error| error.to_string())?;
    std::fs::create_dir_all(place).map_err(|error| error.to_string())?;
    let lock = std::fs::File::create(place.join("lock")).map_err(|error| error.to_string())?;
    lock.lock().map_err(|error| error.to_string())?;
    let (interpreter, done) = (place.join("venv/bin/python"), place.join("done"));
    if std::fs::read_to_string(&done).is_ok_and(|done| done == wanted) && interpreter.exists() {
        return Ok(interpreter);
    }
    let requirements = root().join("tests/python/requirements.txt");
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(place.join("venv")))?;
    run(Command::new(&interpreter)
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--requirement",
        ])
        .arg(requirements))?;
    std::fs::write(done, wanted).map_err(|error| error.to_string())?;
    Ok(interpreter)
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("it says nothing");
    output.status.success().then_some(()).ok_or_else(|| last.to_owned())
}

/// A server of `tests/python` that prints JSON, one object a line. It ends with the test.
pub struct Server {
    process: Child,
    /// It ends with it.
    input: Option<ChildStdin>,
    /// Where it listens, on this machine.
    pub port: u16,
    said: Arc<Mutex<Vec<Value>>>,
}

impl Server {
    /// Starts it with these options. None where Python's packages cannot be installed, which is said.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start(script: &str, options: &Value) -> Option<Self> {
        let interpreter = interpreter()?;
        let mut process = Command::new(interpreter)
            .arg(root().join("tests/python").join(script))
            .arg(options.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python starts");
        let input = process.stdin.take();
        let mut lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        let first = lines.next().and_then(Result::ok);
        let first = first.and_then(|line| serde_json::from_str::<Value>(&line).ok());
        let port = first.as_ref().and_then(|first| first["port"].as_u64());
        let port = port.and_then(|port| u16::try_from(port).ok());
        let said = Arc::<Mutex<Vec<Value>>>::default();
        let to = Arc::clone(&said);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                lock(&to).extend(serde_json::from_str::<Value>(&line));
            }
        });
        Some(Self {
            process,
            input,
            port: port.unwrap_or_else(|| panic!("{script} does not come up: {first:?}")),
            said,
        })
    }

    /// Hands it a line.
    ///
    /// # Panics
    /// When it has ended.
    pub fn tell(&mut self, line: &str) {
        let input = self.input.as_mut().expect("a pipe");
        writeln!(input, "{line}").expect("the server reads");
    }

    /// All that it has said.
    pub fn said(&self) -> Vec<Value> {
        lock(&self.said).clone()
    }

    /// Waits until it has said so much.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn wait_for(&self, count: usize) -> Vec<Value> {
        let start = Instant::now();
        loop {
            let said = self.said();
            if said.len() >= count {
                return said;
            }
            assert!(start.elapsed() < PATIENCE, "{} of {count} came: {said:#?}", said.len());
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It ends what it has started itself.
        self.input = None;
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(5) {
            if !matches!(self.process.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
