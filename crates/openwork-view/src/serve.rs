//! A small server for the page of one view, on the loopback interface, for whoever knows its address.

use std::{
    io::{self, Read},
    net::Ipv4Addr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use serde::Serialize;
use tiny_http::{Header, Method, Request, Response};

use crate::{View, ViewError, ask::Question, content_security_policy, page};

/// Bytes of the largest question.
const LARGEST: usize = 1 << 20;
/// Threads that answer.
const THREADS: usize = 4;
/// Time after which a thread looks whether it is to end.
const PATIENCE: Duration = Duration::from_millis(200);

/// Address of a server: port and token. Whoever has it may ask, and nobody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    port: u16,
    token: String,
}

impl Address {
    /// Port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Address of the page.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/{}/", self.port, self.token)
    }
}

/// A server that listens.
pub struct Server {
    http: tiny_http::Server,
    address: Address,
}

/// Reason that a request is refused: the status and a word on it.
type Refusal = (u16, &'static str);

/// An error as a page reads it.
#[derive(Serialize)]
struct Failure {
    error: String,
}

impl Server {
    /// Listens on a port of 127.0.0.1; 0 is any that is free. The token of the address is 128 random bits.
    ///
    /// # Errors
    /// When the port is taken, or the system gives no random bytes.
    pub fn listen(port: u16) -> Result<Self, ViewError> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|_| ViewError::NoRandom)?;
        let token = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let http = tiny_http::Server::http((Ipv4Addr::LOCALHOST, port))
            .map_err(|source| ViewError::Listen { port, source: io::Error::other(source.to_string()) })?;
        let port = http.server_addr().to_ip().map_or(port, |address| address.port());
        Ok(Self { http, address: Address { port, token } })
    }

    /// Its address.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Answers until `stop` is true.
    pub fn serve(&self, view: &View, stop: &(dyn Fn() -> bool + Sync)) {
        let ended = AtomicBool::new(false);
        let answering = || {
            while !ended.load(Ordering::Relaxed) {
                if let Ok(Some(request)) = self.http.recv_timeout(PATIENCE) {
                    self.respond(view, request);
                }
            }
        };
        thread::scope(|scope| {
            (0..THREADS).for_each(|_| drop(scope.spawn(answering)));
            while !stop() {
                thread::sleep(PATIENCE);
            }
            ended.store(true, Ordering::Relaxed);
        });
    }

    fn respond(&self, view: &View, mut request: Request) {
        let (status, kind, body) = match self.admit(&request).and_then(|asks| match asks {
            Asks::Page => Ok((200, "text/html; charset=utf-8", page(None).into_bytes())),
            Asks::Question => answer(view, &mut request),
        }) {
            Ok(answer) => answer,
            Err((status, word)) => (status, "text/plain; charset=utf-8", word.as_bytes().to_vec()),
        };
        let policy = format!("{}; frame-ancestors 'none'", content_security_policy(true));
        let headers = [
            ("Content-Type", kind),
            ("Content-Security-Policy", &policy),
            ("X-Content-Type-Options", "nosniff"),
            ("X-Frame-Options", "DENY"),
            ("Referrer-Policy", "no-referrer"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Cross-Origin-Opener-Policy", "same-origin"),
            ("Cache-Control", "no-store"),
        ];
        let mut response = Response::from_data(body).with_status_code(status);
        for (name, value) in headers {
            response.add_header(Header::from_bytes(name, value).expect("headers are ASCII"));
        }
        // Whoever asked may be gone.
        let _ = request.respond(response);
    }

    /// The thing that a request asks for, if it may: the right Host, no other Origin, and the token in the address.
    fn admit(&self, request: &Request) -> Result<Asks, Refusal> {
        let all = |name: &'static str| {
            request.headers().iter().filter(move |header| header.field.equiv(name)).map(|header| header.value.as_str())
        };
        let names = [format!("127.0.0.1:{}", self.address.port), format!("localhost:{}", self.address.port)];
        // Another name is a page elsewhere whose name was made to point here.
        let hosts: Vec<&str> = all("Host").collect();
        if hosts.len() != 1 || !names.iter().any(|name| hosts[0] == name) {
            return Err((421, "this server answers as 127.0.0.1 and localhost alone"));
        }
        let own = |origin: &str| origin == format!("http://{}", hosts[0]);
        if !all("Origin").all(own) {
            return Err((403, "requests of other pages are not answered"));
        }
        let path = request.url().split(['?', '#']).next().unwrap_or_default();
        let mut parts = path.trim_start_matches('/').splitn(2, '/');
        let (token, rest) = (parts.next().unwrap_or_default(), parts.next());
        if !same(token.as_bytes(), self.address.token.as_bytes()) {
            return Err((404, "not found"));
        }
        match (request.method(), rest) {
            (Method::Get, Some("")) => Ok(Asks::Page),
            // Forms of other pages cannot send this type, and browsers name the origin of every POST.
            (Method::Post, Some("api")) => {
                match all("Origin").count() == 1 && all("Content-Type").eq(["application/json"]) {
                    true => Ok(Asks::Question),
                    false => Err((403, "a question comes from the page, as application/json")),
                }
            }
            (_, Some("" | "api")) => Err((405, "the page takes GET, and questions POST")),
            _ => Err((404, "not found")),
        }
    }
}

enum Asks {
    Page,
    Question,
}

/// True for equal texts; the time tells nothing of where they differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differs, (x, y)| differs | (x ^ y)) == 0
}

fn answer(view: &View, request: &mut Request) -> Result<(u16, &'static str, Vec<u8>), Refusal> {
    let mut text = String::new();
    let read = request.as_reader().take(LARGEST as u64 + 1).read_to_string(&mut text);
    if read.is_err() || text.len() > LARGEST {
        return Err((413, "a question is UTF-8 of at most a megabyte"));
    }
    let json = "application/json";
    let failure = |error: String| serde_json::to_vec(&Failure { error }).expect("a text");
    Ok(match serde_json::from_str::<Question>(&text) {
        Err(error) => (400, json, failure(format!("no question: {error}"))),
        Ok(question) => match view.answer(&question) {
            Ok(answer) => (200, json, serde_json::to_vec(&answer).expect("plain values")),
            Err(error) => (422, json, failure(error.words())),
        },
    })
}
