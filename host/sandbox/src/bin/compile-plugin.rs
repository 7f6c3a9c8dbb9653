//! The compiling child as a program of its own, for tests and tools. The server carries it as a hidden subcommand.

fn main() -> std::process::ExitCode {
    tollgate_sandbox::compile_child_main()
}
