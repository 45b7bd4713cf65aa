//! Boots a test host for a program that isn't a test: `host [--share DIRECTORY | --file FILE]…`. Prints the number of
//! its process 1, and keeps it until stdin ends.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use rootbuild_tests::TestHost;

fn main() {
    let (mut shared, mut files) = (Vec::new(), Vec::new());
    let mut arguments = std::env::args_os().skip(1);
    while let Some(kind) = arguments.next() {
        let path = PathBuf::from(arguments.next().expect("each option has a path"));
        match kind.to_str() {
            Some("--share") => shared.push(path),
            Some("--file") => files.push(path),
            _ => panic!("there is no option {}", kind.display()),
        }
    }
    let shared: Vec<(&Path, &Path)> = shared.iter().map(|it| (it.as_path(), it.as_path())).collect();
    let files: Vec<&PathBuf> = files.iter().collect();
    let host = TestHost::boot_with("host", &shared, &files).expect("a test host can be booted here");
    println!("{}", host.leader());
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}
