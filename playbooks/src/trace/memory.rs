//! Reading a stopped process's memory.

use std::io::IoSliceMut;

use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;

/// The longest name that the kernel takes, with its end.
const LONGEST: usize = 4096;

/// How much of a name is read at first: nearly all are shorter.
const USUAL: usize = 256;

/// Every page is a multiple of this long.
const PAGE: usize = 4096;

/// The text at an address, up to its NUL; nothing if there is none that the kernel would take.
pub(super) fn text(pid: u32, address: u64, buffer: &mut Vec<u8>) -> bool {
    for limit in [USUAL, LONGEST] {
        buffer.clear();
        buffer.resize(limit, 0);
        let read = bytes(pid, address, buffer);
        if let Some(end) = buffer[..read].iter().position(|byte| *byte == 0) {
            buffer.truncate(end);
            return true;
        }
        if read < limit {
            break;
        }
    }
    buffer.clear();
    false
}

/// Reads as much as there is into `buffer`; how much that was, in bytes.
pub(super) fn bytes(pid: u32, address: u64, buffer: &mut [u8]) -> usize {
    let (Ok(pid), Ok(base)) = (i32::try_from(pid), usize::try_from(address)) else { return 0 };
    // What is asked for beyond a page that isn't there must not lose the page before.
    let first = (PAGE - base % PAGE).min(buffer.len());
    let mut remote = vec![RemoteIoVec { base, len: first }];
    if first < buffer.len() {
        let Some(base) = base.checked_add(first) else { return 0 };
        remote.push(RemoteIoVec { base, len: buffer.len() - first });
    }
    process_vm_readv(Pid::from_raw(pid), &mut [IoSliceMut::new(buffer)], &remote).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &[u8]) -> u64 {
        text.as_ptr().addr() as u64
    }

    #[test]
    fn texts_of_any_length_are_read_up_to_their_end() {
        let mut buffer = Vec::new();
        for length in [0, 1, 255, 256, 257, 4095] {
            let text_ = [vec![b'x'; length], vec![0, b'y']].concat();
            assert!(text(std::process::id(), address(&text_), &mut buffer), "{length}");
            assert_eq!(buffer.len(), length);
        }
        let too_long = vec![b'x'; 5000];
        assert!(!text(std::process::id(), address(&too_long), &mut buffer));
        assert!(!text(std::process::id(), 8, &mut buffer));
    }
}
