//! A browser driven over its debugging socket: real clicks and keys into a headless Chromium.

use std::{
    env, fs,
    io::ErrorKind,
    net::TcpStream,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::{Message, WebSocket, client};

/// Longest wait for anything: debug builds on a busy machine are slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser with one page.
pub struct Browser {
    child: Child,
    socket: WebSocket<TcpStream>,
    session: String,
    next: u64,
    /// Events that came while answers were waited for.
    pub events: Vec<Value>,
    _profile: TempDir,
}

/// Name of a Chromium that is installed.
fn program() -> Option<String> {
    let names = ["chromium", "chromium-browser", "google-chrome"].map(str::to_owned);
    let named = env::var("OPENWORK_BROWSER").ok();
    let works = |name: &String| {
        Command::new(name)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
    };
    named.into_iter().chain(names).find(works)
}

impl Browser {
    /// Starts a browser; none, aloud, where none is installed and none is required.
    pub fn start(width: u32, height: u32) -> Option<Self> {
        let Some(program) = program() else {
            assert!(env::var_os("OPENWORK_REQUIRE_BROWSER").is_none(), "there is no Chromium");
            eprintln!("SKIPPED: there is no Chromium, so the page was not tried in a browser");
            return None;
        };
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new(program);
        command
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0"])
            .args([
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-default-apps",
                "--hide-scrollbars",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let port_file = profile.path().join("DevToolsActivePort");
        let text =
            wait("the browser's port", || fs::read_to_string(&port_file).ok().filter(|text| text.lines().count() == 2));
        let (port, path) = text.split_once('\n').unwrap();
        let stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let address = format!("ws://127.0.0.1:{port}{}", path.trim());
        let (socket, _) = client(&address, stream).unwrap();
        socket.get_ref().set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let mut browser = Self { child, socket, session: String::new(), next: 1, events: vec![], _profile: profile };
        let target = browser.send("Target.createTarget", json!({ "url": "about:blank" }))["targetId"].clone();
        let attached = browser.send("Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        browser.session = attached["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page", "Runtime", "Network", "Log"] {
            browser.send(&format!("{domain}.enable"), json!({}));
        }
        // Keys go to a page that has the focus.
        browser.send("Emulation.setFocusEmulationEnabled", json!({ "enabled": true }));
        browser.resize(width, height);
        Some(browser)
    }

    pub fn resize(&mut self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.send("Emulation.setDeviceMetricsOverride", size);
    }

    /// Sends a command and waits for its answer.
    pub fn send(&mut self, method: &str, params: Value) -> Value {
        let id = self.next;
        self.next += 1;
        let mut message = json!({ "id": id, "method": method, "params": params });
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        self.socket.send(Message::text(message.to_string())).unwrap();
        let started = Instant::now();
        loop {
            assert!(started.elapsed() < PATIENCE, "no answer to {method}");
            let Some(answer) = self.read() else { continue };
            if answer["id"] == json!(id) {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
            self.events.push(answer);
        }
    }

    fn read(&mut self) -> Option<Value> {
        match self.socket.read() {
            Ok(message) => serde_json::from_str(message.to_text().ok()?).ok(),
            Err(tungstenite::Error::Io(error))
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
            {
                None
            }
            Err(error) => panic!("the browser is gone: {error}"),
        }
    }

    /// Goes to an address and waits until its page has something to show.
    pub fn open(&mut self, url: &str) {
        self.send("Page.navigate", json!({ "url": url }));
        self.wait_for("document.readyState === 'complete' && document.querySelector('main') !== null");
    }

    /// Value of an expression in the page.
    pub fn value(&mut self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.send("Runtime.evaluate", asked);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    pub fn text(&mut self, selector: &str) -> String {
        let found = self.value(&format!("document.querySelector({}).innerText", json!(selector)));
        found.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until an expression is true in the page.
    pub fn wait_for(&mut self, expression: &str) {
        let started = Instant::now();
        // What is not there yet is not true yet.
        let holds = format!("(() => {{ try {{ return Boolean({expression}); }} catch {{ return false; }} }})()");
        while !self.value(&holds).as_bool().unwrap() {
            if started.elapsed() >= PATIENCE {
                let shown = self.value("document.body.innerText");
                panic!("it never came to {expression}; the page shows {shown}");
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Clicks in the middle of the first element that fits, with the mouse.
    pub fn click(&mut self, selector: &str) {
        let [x, y] = self.middle(selector);
        for (kind, buttons) in [("mouseMoved", 0), ("mousePressed", 1), ("mouseReleased", 0)] {
            let event = json!({ "type": kind, "x": x, "y": y, "button": if kind == "mouseMoved" { "none" } else { "left" },
                "buttons": buttons, "clickCount": 1 });
            self.send("Input.dispatchMouseEvent", event);
        }
    }

    /// Middle of an element, which is scrolled to.
    pub fn middle(&mut self, selector: &str) -> [f64; 2] {
        let selector = json!(selector);
        self.wait_for(&format!("document.querySelector({selector})"));
        let place = self.value(&format!(
            "(() => {{ const e = document.querySelector({selector}); e.scrollIntoView({{ block: 'center', behavior: 'instant' }}); \
             const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; }})()"
        ));
        [0, 1].map(|i| place[i].as_f64().unwrap())
    }

    /// Types a text into what has the focus, a character at a time.
    pub fn type_text(&mut self, text: &str) {
        for c in text.chars() {
            self.send("Input.dispatchKeyEvent", json!({ "type": "char", "text": c.to_string() }));
        }
    }

    /// Presses a key, such as `Tab` or `ArrowRight`.
    pub fn press(&mut self, key: &str) {
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            "ArrowLeft" => 37,
            "ArrowUp" => 38,
            "ArrowRight" => 39,
            "ArrowDown" => 40,
            "Backspace" => 8,
            other => panic!("no code of {other}"),
        };
        let down = if key == "Enter" { "keyDown" } else { "rawKeyDown" };
        let mut event = json!({ "type": down, "key": key, "code": key, "windowsVirtualKeyCode": code });
        if key == "Enter" {
            event["text"] = json!("\r");
        }
        self.send("Input.dispatchKeyEvent", event.clone());
        event["type"] = json!("keyUp");
        self.send("Input.dispatchKeyEvent", event);
    }

    /// Chooses an option of a select element by its value, as a person does: the element hears of it.
    pub fn choose(&mut self, selector: &str, value: &str) {
        self.wait_for(&format!("document.querySelector({})", json!(selector)));
        self.value(&format!(
            "(() => {{ const e = document.querySelector({}); e.value = {}; e.dispatchEvent(new Event('change', {{ bubbles: true }})); }})()",
            json!(selector),
            json!(value)
        ));
    }

    /// Writes what is shown to a file of the folder that `OPENWORK_SCREENSHOTS` names, if it is set.
    pub fn screenshot(&mut self, name: &str) {
        let Some(folder) = env::var_os("OPENWORK_SCREENSHOTS") else { return };
        let answer = self.send("Page.captureScreenshot", json!({ "format": "png" }));
        let path = std::path::Path::new(&folder).join(format!("{name}.png"));
        fs::write(path, decoded(answer["data"].as_str().unwrap())).unwrap();
    }

    /// Addresses that were asked for.
    pub fn requests(&mut self) -> Vec<String> {
        self.value("0");
        let asked = self.events.iter().filter(|event| event["method"] == "Network.requestWillBeSent");
        asked.map(|event| event["params"]["request"]["url"].as_str().unwrap().to_owned()).collect()
    }

    /// Errors that the page made: exceptions, and what the policy forbade.
    pub fn errors(&mut self) -> Vec<String> {
        self.value("0");
        let is_error = |event: &&Value| {
            let entry = &event["params"]["entry"];
            // A question that has no answer is no fault of the page, which says why.
            let answered = entry["source"] == "network" && entry["text"].as_str().is_some_and(|t| t.contains("422"));
            let logged = event["method"] == "Log.entryAdded" && entry["level"] == "error" && !answered;
            event["method"] == "Runtime.exceptionThrown" || logged
        };
        self.events.iter().filter(is_error).map(|event| event["params"].to_string()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(started.elapsed() < PATIENCE, "{what} never came");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Bytes of a text in base64.
fn decoded(text: &str) -> Vec<u8> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u32> = text.bytes().filter(|&c| c != b'=').map(|c| u32::from(digit(c))).collect();
    let group = |group: &[u32]| {
        let bits = (0..4).fold(0, |bits, i| bits << 6 | group.get(i).copied().unwrap_or(0));
        bits.to_be_bytes()[1..group.len()].to_vec()
    };
    digits.chunks(4).flat_map(group).collect()
}
