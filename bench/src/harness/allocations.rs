//! How many bytes a process has allocated: counted around its allocator.
#![allow(
    unsafe_code,
    reason = "an allocator is called through an unsafe trait; every call is passed on as it came"
)]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// A thread adds what it has allocated to the sum of all when it is this much: a counter that all share costs more than
/// an allocation.
const AT_ONCE: u64 = 64 << 10;

static ALL: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static OWN: Cell<u64> = const { Cell::new(0) };
}

/// An allocator whose bytes are counted: all that it was ever asked for, and by how much something grew.
#[derive(Debug)]
pub struct Counted<A>(pub A);

/// So many so far, but for what other threads have not added yet; `None` where the allocator is not counted.
pub fn allocated_bytes() -> Option<u64> {
    let all = ALL.load(Ordering::Relaxed) + OWN.get();
    (all > 0).then_some(all)
}

fn count(bytes: usize) {
    // What a thread allocates while it ends is not missed.
    let _ = OWN.try_with(|own| {
        let sum = own.get() + bytes as u64;
        if sum < AT_ONCE {
            own.set(sum);
        } else {
            own.set(0);
            ALL.fetch_add(sum, Ordering::Relaxed);
        }
    });
}

// SAFETY: the inner allocator keeps the contract, and gets exactly what came.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Counted<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as above.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as above.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { self.0.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size.saturating_sub(layout.size()));
        // SAFETY: as above.
        unsafe { self.0.realloc(at, layout, size) }
    }
}

#[cfg(test)]
mod tests {
    use std::alloc::System;

    use super::*;

    #[test]
    fn what_is_asked_for_and_what_grows_counts() {
        let allocator = Counted(System);
        let layout = Layout::from_size_align(1_000, 8).expect("a layout");
        let before = allocated_bytes().unwrap_or(0);
        // SAFETY: what is allocated is given back with the layout that it has.
        unsafe {
            let at = allocator.alloc(layout);
            let at = allocator.realloc(at, layout, 1_500);
            let grown = Layout::from_size_align(1_500, 8).expect("a layout");
            allocator.dealloc(at, grown);
            let at = allocator.alloc_zeroed(layout);
            allocator.dealloc(at, layout);
        }
        let counted = allocated_bytes().unwrap_or(0) - before;
        assert_eq!(counted, 2_500);
    }
}
