//! The one binary.

fn main() -> std::process::ExitCode {
    onair::main()
}
