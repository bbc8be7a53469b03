//! The macro that embeds the migrations notices a changed file, not a new one.

fn main() {
    println!("cargo::rerun-if-changed=sql");
}
