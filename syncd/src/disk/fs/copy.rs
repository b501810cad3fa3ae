//! Copies where the kernel cannot copy by itself.

use super::Fs;
use std::io;

/// Bytes read at a time.
const COPY_LEN: usize = 256 * 1024;

/// As `Fs::copy_range`, through a buffer.
pub(super) fn copy_by_hand<F: Fs>(fs: &F, from: &F::File, to: &F::File, offset: u64, len: u64) -> io::Result<u64> {
    let mut buffer = vec![0; COPY_LEN];
    let mut done = 0;
    while done < len {
        let want = usize::try_from(len - done).unwrap_or(COPY_LEN).min(COPY_LEN);
        let count = fs.read_at(from, &mut buffer[..want], offset + done)?;
        if count == 0 {
            break;
        }
        fs.write_at(to, &buffer[..count], offset + done)?;
        done += count as u64;
    }
    Ok(done)
}
