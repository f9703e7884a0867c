//! The debugger's full screen: keys change a state, and the state is drawn as a frame. Only this file talks to the terminal.

mod draw;
mod input;
mod panes;
mod state;
mod text;
mod tree;

use anyhow::{Context, Result};
use openwork_debug::Session;
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyEventKind},
};

use state::Screen;

/// Opens the full screen on a session, until it is quit. The terminal is afterwards as it was, after a panic too.
pub fn run(session: Session) -> Result<()> {
    let mut terminal = ratatui::try_init().context("cannot open a full screen; --plain has a prompt")?;
    let outcome = turns(&mut terminal, Screen::new(session));
    ratatui::restore();
    outcome
}

fn turns(terminal: &mut DefaultTerminal, mut screen: Screen) -> Result<()> {
    while !screen.quits() {
        terminal.draw(|frame| draw::draw(frame, &mut screen))?;
        let Event::Key(key) = event::read()? else {
            // A window of another size is drawn anew.
            continue;
        };
        if key.kind != KeyEventKind::Release && screen.key(key) {
            // The line is shown as running while it runs.
            terminal.draw(|frame| draw::draw(frame, &mut screen))?;
            screen.carry_out();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
