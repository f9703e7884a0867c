//! The server's guards, over a bare socket.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use openwork_view::{Server, View};

use crate::files::copy;

/// Runs `test` with the address of a server that answers about `targets`.
pub fn served<R>(targets: &[PathBuf], test: impl FnOnce(&str) -> R) -> R {
    let view = View::open(targets).unwrap();
    let server = Server::listen(0).unwrap();
    let url = server.address().url();
    let ended = AtomicBool::new(false);
    // The server ends with a test that fails, too.
    struct End<'a>(&'a AtomicBool);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    thread::scope(|scope| {
        scope.spawn(|| server.serve(&view, &|| ended.load(Ordering::Relaxed)));
        let _end = End(&ended);
        test(&url)
    })
}

struct Reply {
    status: u16,
    head: String,
    body: String,
}

fn exchange(port: &str, request: &str) -> Reply {
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Reply { status, head: head.to_owned(), body: body.to_owned() }
}

#[test]
fn only_the_page_of_the_address_is_answered() {
    let dir = copy();
    served(&[dir.path().to_owned()], |url| {
        let parts: Vec<&str> = url.split('/').collect();
        let (host, token) = (parts[2], parts[3]);
        let port = host.rsplit(':').next().unwrap();
        let origin = format!("http://{host}");
        assert_eq!(token.len(), 32);
        let get = |path: &str, host: &str, more: &str| {
            exchange(port, &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}Connection: close\r\n\r\n"))
        };
        let ask = |path: &str, host: &str, more: &str, body: &str| {
            let length = body.len();
            exchange(
                port,
                &format!(
                    "POST {path} HTTP/1.1\r\nHost: {host}\r\n{more}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                ),
            )
        };
        let page = format!("/{token}/");
        let api = format!("/{token}/api");
        let reply = get(&page, host, "");
        assert_eq!(reply.status, 200);
        for line in ["nosniff", "no-referrer", "frame-ancestors 'none'", "default-src 'none'", "no-store"] {
            assert!(reply.head.contains(line), "{}", reply.head);
        }
        assert!(!reply.head.contains("unsafe-inline") && !reply.head.to_lowercase().contains("access-control"));
        assert_eq!(get(&page, &format!("localhost:{port}"), "").status, 200);

        // The token.
        let other = format!("/{}/", "0".repeat(32));
        for path in [
            "/",
            "/index.html",
            &other,
            &page[..page.len() - 2],
            "/..%2f",
            &format!("/{token}/../"),
            &format!("/{token}/x"),
        ] {
            assert_eq!(get(path, host, "").status, 404, "{path}");
        }
        // The name.
        for name in ["evil.example", "127.0.0.1", &format!("evil.example:{port}"), "localhost:1", ""] {
            assert_eq!(get(&page, name, "").status, 421, "{name}");
        }
        // The page that asks.
        let json = "Content-Type: application/json\r\n";
        let own = format!("Origin: {origin}\r\n");
        let catalogue = r#"{"ask":"catalogue"}"#;
        assert_eq!(ask(&api, host, &format!("{json}{own}"), catalogue).status, 200);
        for wrong in ["null", "http://evil.example", &format!("https://{host}"), &format!("http://localhost:{port}")] {
            let more = format!("{json}Origin: {wrong}\r\n");
            assert_eq!(ask(&api, host, &more, catalogue).status, 403, "{wrong}");
            assert_eq!(get(&page, host, &format!("Origin: {wrong}\r\n")).status, 403, "{wrong}");
        }
        assert_eq!(ask(&api, host, json, catalogue).status, 403, "a question without an origin");
        assert_eq!(ask(&api, host, &format!("{own}Content-Type: text/plain\r\n"), catalogue).status, 403, "a form");
        assert_eq!(ask(&other.replace("/\0", ""), host, &format!("{json}{own}"), catalogue).status, 404);
        assert_eq!(get(&api, host, "").status, 405);
        // The question.
        let asks = |body: &str| ask(&api, host, &format!("{json}{own}"), body);
        for body in ["", "{", "[]", r#"{"ask":"none"}"#, r#"{"ask":"graph"}"#, r#"{"ask":"graph","circuit":-1}"#] {
            let reply = asks(body);
            assert_eq!(reply.status, 400, "{body}: {}", reply.body);
            assert!(reply.body.contains("\"error\""));
        }
        let reply = asks(r#"{"ask":"graph","circuit":99}"#);
        assert_eq!(reply.status, 422);
        assert!(reply.body.contains("there is no circuit 99; there are 2"), "{}", reply.body);
        assert_eq!(asks(&" ".repeat((1 << 20) + 1)).status, 413);
    });
}
