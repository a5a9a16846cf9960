//! Lets the program find libtorch wherever it is installed to, not only beside this workspace.

fn main() {
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    println!("cargo::rerun-if-changed=build.rs");
    let windows = std::env::var_os("CARGO_CFG_WINDOWS").is_some();
    let libtorch = std::env::var_os("LIBTORCH").map(std::path::PathBuf::from);
    // `.libtorch` is a link that may be set anew; the installed program keeps to what it was built with.
    if let Some(folder) = libtorch.and_then(|folder| folder.canonicalize().ok()).filter(|_| !windows) {
        println!("cargo::rustc-link-arg-bins=-Wl,-rpath,{}", folder.join("lib").display());
    }
}
