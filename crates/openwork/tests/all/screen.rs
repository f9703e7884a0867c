//! The debugger's full screen in a real terminal, which tmux is: keys in, screen out.

use std::{
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

use crate::debug::quotes;

/// A terminal of its own server of tmux, which ends with it.
struct Tmux<'a>(&'a Path);

impl Tmux<'_> {
    fn run(&self, args: &[&str]) -> Output {
        Command::new("tmux").arg("-S").arg(self.0.join("socket")).args(args).output().expect("tmux runs")
    }

    fn screen(&self) -> String {
        String::from_utf8(self.run(&["capture-pane", "-p", "-t", "0"]).stdout).unwrap()
    }

    /// Waits until the screen has all parts.
    #[track_caller]
    fn shows(&self, parts: &[&str]) -> String {
        let begun = Instant::now();
        loop {
            let screen = self.screen();
            if parts.iter().all(|part| screen.contains(part)) {
                return screen;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{parts:?} do not come:\n{screen}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn line(&self, text: &str) {
        self.run(&["send-keys", "-t", "0", "-l", text]);
        self.run(&["send-keys", "-t", "0", "Enter"]);
    }

    fn keys(&self, keys: &[&str]) {
        self.run(&[&["send-keys", "-t", "0"], keys].concat());
    }
}

impl Drop for Tmux<'_> {
    fn drop(&mut self) {
        self.run(&["kill-server"]);
    }
}

#[test]
fn the_debugger_has_a_full_screen_on_a_terminal() {
    if Command::new("tmux").arg("-V").output().is_err() {
        eprintln!("SKIPPED: there is no tmux, which the test of the full screen types into");
        return;
    }
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    quotes(dir, false);
    let tmux = Tmux(dir);
    let program = env!("CARGO_BIN_EXE_openwork");
    let shell =
        format!("cd '{}' && TERM=screen '{program}' debug model; echo \"ended with $?\"; exec sh", dir.display());
    let started = tmux.run(&["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", &shell]);
    assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
    tmux.shows(&["no prompt", "points", "answers", "(debug)", "F1 help"]);
    tmux.line("prompt a \"print(\\\"hello\"");
    tmux.shows(&["prompt a, 4 tokens", "1:\"(\\\"\"", "before the first point"]);
    tmux.line("break 0.attn.v[2]");
    tmux.keys(&["F5"]);
    let stopped = tmux.shows(&["at 0.attn.v@1", "▶1:\"(\\\"\"", "▶●0.attn.v", "[2]", "+1.00000 █"]);
    assert_eq!(stopped.lines().count(), 24);
    // Values, then the backtrace of the largest, unfolded to the embedding of the quote.
    tmux.keys(&["Tab", "Tab", "Tab", "Enter"]);
    tmux.shows(&["backtrace: 0.attn.v[2]@1 = 1.000000", "▸ 0.attn.act_in[0]@1"]);
    tmux.keys(&["Right"]);
    tmux.shows(&["▾ 0.attn.act_in[0]@1", "embedding[0]@1"]);
    // Another size is drawn anew, with the answers beside the backtrace.
    tmux.run(&["resize-window", "-t", "0", "-x", "140", "-y", "40"]);
    let wide = tmux.shows(&["embedding[0]@1", " answers "]);
    assert!(wide.lines().any(|line| line.contains("backtrace: ") && line.contains(" answers ")), "{wide}");
    tmux.keys(&["Escape"]);
    tmux.shows(&["Ctrl-D quit"]);
    tmux.line("set 0.attn.v[2] = 0");
    tmux.shows(&["1 edit", "edit 0.attn.v[2] = 0 on a", "other edits"]);
    tmux.line("nothing");
    tmux.shows(&["error: column 1: expected a command"]);
    tmux.line("quit");
    let after = tmux.shows(&["ended with 0"]);
    assert!(!after.contains("points"), "the terminal is as before:\n{after}");
}
