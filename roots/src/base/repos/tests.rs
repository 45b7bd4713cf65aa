//! Against a real server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use super::*;

/// What a server sends for a path, with the head lines of the request at hand.
type Script = fn(&str, &str) -> String;

fn server(script: Script) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = Arc::clone(&asked);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            while reader.read_line(&mut head).unwrap() > 2 {}
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            log.lock().unwrap().push(path.clone());
            let _ = stream.write_all(script(&path, &head.to_ascii_lowercase()).as_bytes());
        }
    });
    (url, asked)
}

fn ok(body: &str, more: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n{more}\r\n{body}", body.len())
}

fn script(path: &str, head: &str) -> String {
    match path {
        "/os/repomd.xml" if head.contains("if-none-match: \"one\"") => {
            "HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n".to_owned()
        }
        "/os/repomd.xml" => ok("metadata", "ETag: \"one\"\r\n"),
        "/os/cut.rpm" => {
            "HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\nshort".to_owned()
        }
        "/os/away" => {
            "HTTP/1.1 302 Found\r\nLocation: /secret\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                .to_owned()
        }
        "/os/moved" => {
            "HTTP/1.1 302 Found\r\nLocation: repomd.xml\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                .to_owned()
        }
        "/secret" => ok("secret", ""),
        "/list" => ok("# two\nhttps://one.example/7/os\nhttp://other.example/os/\n", ""),
        "/locked/x.rpm" => ok("x", ""),
        _ => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned(),
    }
}

/// A proxy for what is below `/os/` of a server, on a socket of this host.
fn proxy(store: &Path, url: &str, offline: bool) -> (Repos, Serving, String) {
    let (list, locked) = (format!("{url}/list"), format!("{url}/locked"));
    let declared = Declared {
        root: "web".to_owned(),
        urls: vec![directory(&format!("{url}/os")).unwrap(), list],
        mirrors: vec![locked],
        offline,
        mirror: None,
    };
    let repos = Repos::new(declared, store, store);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serving = repos.serve(listener).unwrap();
    (repos, serving, address)
}

/// Status and body, the latter as far as it came.
fn ask(proxy: &str, line: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(proxy).unwrap();
    write!(stream, "{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    (head.split(' ').nth(1).map_or(0, |code| code.parse().unwrap()), body.to_owned())
}

#[test]
fn what_is_declared_is_handed_on_kept_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let (url, asked) = server(script);
    let (repos, _serving, proxy) = proxy(dir.path(), &url, false);
    let get = |path: &str| ask(&proxy, &format!("GET {url}{path}"));
    assert_eq!(get("/os/repomd.xml"), (200, "metadata".to_owned()));
    let fetched = repos.take_fetched();
    assert_eq!(fetched.len(), 1);
    assert_eq!((fetched[0].url.as_str(), fetched[0].size), (format!("{url}/os/repomd.xml").as_str(), 8));
    let kept = dir.path().join("packages").join(&fetched[0].sha256[..2]).join(&fetched[0].sha256);
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), "metadata");
    // The same version again: the server is asked, and sends nothing.
    assert_eq!(get("/os/repomd.xml"), (200, "metadata".to_owned()));
    assert_eq!((asked.lock().unwrap().len(), repos.take_fetched()), (2, fetched.clone()));
    // What the store has is looked at before it is handed out.
    std::fs::write(&kept, "metadatA").unwrap();
    assert_eq!(get("/os/repomd.xml"), (200, "metadata".to_owned()));
    assert_eq!(get("/os/moved"), (200, "metadata".to_owned()));
    assert_eq!(ask(&proxy, &format!("HEAD {url}/os/repomd.xml")), (200, String::new()));
    assert_eq!(get("/os/nothing").0, 404);
    assert!(repos.take_problems().is_empty());
}

#[test]
fn all_else_is_refused_with_what_would_allow_it() {
    let dir = tempfile::tempdir().unwrap();
    let (url, asked) = server(script);
    let (repos, _serving, proxy) = proxy(dir.path(), &url, false);
    let (status, body) = ask(&proxy, &format!("GET {url}/secret"));
    assert_eq!(status, 403);
    assert!(body.contains(&format!("`{url}/secret`")) && body.contains("[root.web]"), "{body}");
    assert!(body.contains(&format!("repos = [\"{url}/\"]")), "{body}");
    for line in
        [format!("GET {url}/os/../secret"), format!("GET {url}/os/%2e%2e/secret"), "GET /os/x".to_owned()]
    {
        assert_eq!(ask(&proxy, &line).0, 400, "{line}");
    }
    let (status, body) = ask(&proxy, "CONNECT mirror.example:443");
    assert_eq!(status, 403);
    assert!(body.contains("mirror.example") && body.contains("http://"), "{body}");
    assert_eq!(ask(&proxy, &format!("POST {url}/os/repomd.xml")).0, 405);
    assert!(asked.lock().unwrap().is_empty());
    // Nor where a server sends on to it.
    let (status, body) = ask(&proxy, &format!("GET {url}/os/away"));
    assert_eq!(status, 403);
    assert!(body.contains("/secret"), "{body}");
    assert_eq!(repos.take_problems().len(), 2);
    assert!(repos.take_fetched().is_empty());
}

#[test]
fn what_lists_name_is_served_if_they_can_be_believed() {
    let dir = tempfile::tempdir().unwrap();
    let (url, asked) = server(script);
    let (repos, _serving, proxy) = proxy(dir.path(), &url, false);
    let get = |path: &str| ask(&proxy, &format!("GET {url}{path}"));
    assert_eq!(get("/locked/x.rpm"), (200, "x".to_owned()), "a mirror of the lock");
    // Inside, everything is asked for by http; what is kept and told is what the server gave.
    let shown = "# two\nhttp://one.example/7/os\nhttp://other.example/os/\n";
    assert_eq!(get("/list"), (200, shown.to_owned()));
    let fetched = repos.take_fetched();
    assert_eq!(fetched.iter().map(|it| it.size).collect::<Vec<_>>(), [56, 1]);
    let refused = |url: &str| repos.0.allowed(&Url::parse(url).unwrap()).is_none();
    assert!(refused("http://one.example/7/os/x.rpm"), "anybody could have written a list that came by http");
    let list = "https://lists.example/?release=7";
    let text =
        "<metalink><url protocol=\"https\">https://one.example/7/os/repodata/repomd.xml</url></metalink>";
    repos.0.learn(list, text);
    let from = repos.0.allowed(&Url::parse("http://one.example/7/os/x.rpm").unwrap()).unwrap();
    assert_eq!(from.to_string(), "https://one.example/7/os/x.rpm", "as the list says");
    assert!(refused("http://one.example/7/x.rpm") && refused("http://other.example/os/x.rpm"));
    // Offline the store has it.
    drop(asked);
    let (_repos, _serving, proxy) = self::proxy(dir.path(), &url, true);
    assert_eq!(ask(&proxy, &format!("GET {url}/list")), (200, shown.to_owned()));
}

#[test]
fn what_does_not_come_whole_is_neither_kept_nor_taken_for_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (url, _) = server(script);
    let (repos, _serving, proxy) = proxy(dir.path(), &url, false);
    let (status, body) = ask(&proxy, &format!("GET {url}/os/cut.rpm"));
    assert_eq!(status, 502, "{body}");
    assert!(repos.take_fetched().is_empty());
    assert!(!dir.path().join("packages").exists());
    assert!(repos.take_problems()[0].contains("ended early"));
}

#[test]
fn offline_only_the_store_answers() {
    let dir = tempfile::tempdir().unwrap();
    let (url, asked) = server(script);
    {
        let (_repos, _serving, proxy) = proxy(dir.path(), &url, false);
        assert_eq!(ask(&proxy, &format!("GET {url}/os/repomd.xml")).0, 200);
        assert_eq!(ask(&proxy, &format!("GET {url}/os/nothing")).0, 404);
    }
    let before = asked.lock().unwrap().len();
    let (repos, _serving, proxy) = proxy(dir.path(), &url, true);
    assert_eq!(ask(&proxy, &format!("GET {url}/os/repomd.xml")), (200, "metadata".to_owned()));
    assert_eq!(ask(&proxy, &format!("GET {url}/os/nothing")).0, 404);
    assert_eq!(repos.take_fetched().len(), 1);
    let (status, body) = ask(&proxy, &format!("GET {url}/os/new.rpm"));
    assert_eq!(status, 504);
    assert!(body.contains("/os/new.rpm") && body.contains("--offline"), "{body}");
    assert_eq!(repos.take_problems().len(), 1);
    assert_eq!(asked.lock().unwrap().len(), before);
}
