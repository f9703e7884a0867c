//! Tests of the viewer: questions and answers, the server's guards, and the page in a browser.

mod answers;
mod browser;
mod driver;
mod files;
mod measure;
mod published;
mod server;
