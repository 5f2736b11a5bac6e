//! The one binary.

#[cfg(not(feature = "bench"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

// The same, counted.
#[cfg(feature = "bench")]
#[global_allocator]
static ALLOCATOR: onair_bench::harness::allocations::Counted<mimalloc::MiMalloc> =
    onair_bench::harness::allocations::Counted(mimalloc::MiMalloc);

fn main() -> std::process::ExitCode {
    onair::main()
}
