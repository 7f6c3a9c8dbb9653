//! The allocator of a plugin.
//!
//! A run is short and its instance is thrown away, so that most of what an allocator does for a long-lived program is lost here. This
//! one hands out a block that the plugin has from the beginning, from one end to the other, and takes back only what it gave last.
//! What finds no room comes from the standard allocator.
//!
//! The block saves more than instructions. The standard allocator begins by asking for memory beyond what the plugin has; the host
//! opens it for this run and closes it for the next one, and each stops all of the host's threads for a moment. That took longer than
//! a small rule.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// A usual event takes some ten KiB with its configuration and state. What is not touched costs nothing.
const BLOCK_BYTES: usize = 256 * 1024;

#[cfg(all(target_arch = "wasm32", feature = "arena"))]
#[global_allocator]
static ARENA: Arena = Arena::new();

struct Arena {
    block: Block,
    /// How much of the block is given out.
    used: AtomicUsize,
}

#[repr(C, align(16))]
struct Block(UnsafeCell<[u8; BLOCK_BYTES]>);

// SAFETY: a plugin has one thread, and the contract no way to start another; the tests use each arena on one thread.
unsafe impl Sync for Arena {}

impl Arena {
    const fn new() -> Self {
        Self {
            block: Block(UnsafeCell::new([0; BLOCK_BYTES])),
            used: AtomicUsize::new(0),
        }
    }

    fn start(&self) -> *mut u8 {
        self.block.0.get().cast()
    }

    /// Where in the block a pointer lies, if it does.
    fn place(&self, pointer: *mut u8) -> Option<usize> {
        let place = pointer.addr().wrapping_sub(self.start().addr());
        (place < BLOCK_BYTES).then_some(place)
    }

    /// Gives out what lies from `place` on, if there is so much.
    fn take(&self, place: usize, bytes: usize) -> Option<*mut u8> {
        let end = place.checked_add(bytes).filter(|&end| end <= BLOCK_BYTES)?;
        self.used.store(end, Relaxed);
        // SAFETY: `place` is at most `end`, which is at most the block's length.
        Some(unsafe { self.start().add(place) })
    }
}

// SAFETY: what is given out lies between `used` before and after, and `used` goes back only over the piece given last, when that is
// given back. So no two pieces overlap. The rest is the standard allocator's.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let start = self.start().addr();
        let aligned = (start + self.used.load(Relaxed)).next_multiple_of(layout.align());
        match self.take(aligned - start, layout.size()) {
            Some(piece) => piece,
            // SAFETY: the caller's promises, handed on.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        match self.place(piece) {
            Some(place) if place + layout.size() == self.used.load(Relaxed) => self.used.store(place, Relaxed),
            Some(_) => {}
            // SAFETY: it is not of the block, so it is of the standard allocator; the caller's promises, handed on.
            None => unsafe { System.dealloc(piece, layout) },
        }
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        let Some(place) = self.place(piece) else {
            // SAFETY: as in `dealloc`.
            return unsafe { System.realloc(piece, layout, bytes) };
        };
        if place + layout.size() == self.used.load(Relaxed)
            && let Some(same) = self.take(place, bytes)
        {
            return same;
        }
        if bytes <= layout.size() {
            return piece;
        }
        // SAFETY: the caller promises that `bytes` is a size for this alignment; the new piece is no part of the old one, and both have
        // the old one's length.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(bytes, layout.align()));
            if !new.is_null() {
                ptr::copy_nonoverlapping(piece, new, layout.size());
            }
            new
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(bytes: usize, align: usize) -> Layout {
        Layout::from_size_align(bytes, align).unwrap()
    }

    /// An arena is longer than a test's stack should hold.
    fn arena() -> Box<Arena> {
        Box::new(Arena::new())
    }

    #[test]
    fn pieces_are_aligned_and_apart() {
        let arena = arena();
        let mut end = arena.start().addr();
        for (bytes, align) in [(1, 1), (8, 8), (3, 1), (64, 16), (1, 4096), (5, 4), (0, 2)] {
            let piece = unsafe { arena.alloc(layout(bytes, align)) }.addr();
            assert_eq!(piece % align, 0);
            assert!(piece >= end, "{bytes} bytes lie over what was given before");
            end = piece + bytes;
        }
        assert!(end <= arena.start().addr() + BLOCK_BYTES);
    }

    #[test]
    fn only_the_last_piece_is_taken_back() {
        let arena = arena();
        let (first, last) = unsafe { (arena.alloc(layout(10, 1)), arena.alloc(layout(20, 1))) };
        unsafe { arena.dealloc(first, layout(10, 1)) };
        assert_eq!(arena.used.load(Relaxed), 30);
        unsafe { arena.dealloc(last, layout(20, 1)) };
        assert_eq!(arena.used.load(Relaxed), 10);
    }

    #[test]
    fn the_last_piece_grows_in_its_place_and_another_moves_with_what_it_holds() {
        let arena = arena();
        unsafe {
            let piece = arena.alloc(layout(4, 1));
            piece.copy_from(b"abcd".as_ptr(), 4);
            assert_eq!(arena.realloc(piece, layout(4, 1), 100), piece);
            assert_eq!(arena.realloc(piece, layout(100, 1), 4), piece);
            assert_eq!(arena.used.load(Relaxed), 4);
            let last = arena.alloc(layout(1, 1));
            assert_eq!(
                arena.realloc(piece, layout(4, 1), 3),
                piece,
                "to shrink it need not move"
            );
            let moved = arena.realloc(piece, layout(4, 1), 8);
            assert!(moved > last);
            assert_eq!(std::slice::from_raw_parts(moved, 4), b"abcd");
        }
    }

    #[test]
    fn what_has_no_room_comes_from_elsewhere_and_goes_back_there() {
        let arena = arena();
        unsafe {
            let small = arena.alloc(layout(16, 1));
            small.copy_from([7; 16].as_ptr(), 16);
            let outside = arena.realloc(small, layout(16, 1), BLOCK_BYTES + 1);
            assert_eq!(arena.place(outside), None);
            assert_eq!(std::slice::from_raw_parts(outside, 16), [7; 16]);
            let outside = arena.realloc(outside, layout(BLOCK_BYTES + 1, 1), 2 * BLOCK_BYTES);
            arena.dealloc(outside, layout(2 * BLOCK_BYTES, 1));
            assert_eq!(arena.used.load(Relaxed), 16);
            let rest = arena.alloc(layout(BLOCK_BYTES - 16, 1));
            assert_eq!(arena.place(rest), Some(16), "the block is used to its end");
            let more = arena.alloc(layout(1, 1));
            assert_eq!(arena.place(more), None);
            arena.dealloc(more, layout(1, 1));
        }
    }
}
