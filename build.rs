//! Looks for OpenBLAS before anything is compiled, and says in one line what to install where it is missing. The linker
//! would say it minutes later, and less clearly.

use std::env;

use pkg_config::Error::EnvNoPkgConfig;

const ADVICE: &str = "conformask needs OpenBLAS with its development files, and pkg-config did not find it. Install them: \
    `apt-get install libopenblas-dev pkg-config` (Debian, Ubuntu), `dnf install openblas-devel pkgconf-pkg-config` (Fedora), \
    `conda install -c conda-forge openblas pkg-config`. Where pkg-config does not look, PKG_CONFIG_PATH names the folder of \
    openblas.pc; OPENBLAS_NO_PKG_CONFIG=1 leaves it to the linker to find -lopenblas.";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // On macOS and Windows `openblas-src` asks Homebrew and vcpkg, too, and says so itself; docs.rs links nothing.
    let is_asked = env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux");
    if !is_asked || env::var_os("DOCS_RS").is_some() {
        return;
    }
    // `openblas-src` prints what the linker needs.
    match pkg_config::Config::new().cargo_metadata(false).probe("openblas") {
        Ok(_) | Err(EnvNoPkgConfig(_)) => {}
        Err(error) => {
            let error = error.to_string();
            let reason = error.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
            println!("cargo::error={ADVICE} It said: {reason}");
        }
    }
}
