//! The load command against the real server, over real sockets.

use std::{path::Path, process::Command};

#[test]
fn viewers_get_the_picture_and_the_figures_are_printed() {
    let test = std::env::current_exe().unwrap();
    // Tests are one folder below the programs that were built with them.
    let folder = test.parent().and_then(Path::parent).unwrap();
    let (bench, server) = (folder.join("fanlight-bench"), folder.join("fanlight"));
    // Alone, this package does not build the server; with the whole workspace it is there.
    assert!(
        server.is_file(),
        "there is no server at {}: build it first (cargo build -p fanlight)",
        server.display()
    );
    let output = Command::new(bench)
        .args([
            "load",
            "--viewers",
            "5",
            "--ramp",
            "20",
            "--churn",
            "2",
            "--duration",
            "2",
        ])
        .args(["--channel", "--clip-seconds", "2", "--server"])
        .arg(&server)
        .output()
        .unwrap();
    let figures = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    for expected in [
        "5 connected in the ramp",
        "0 refused",
        "a whole frame",
        "us per forwarded packet",
    ] {
        assert!(
            figures.contains(expected),
            "no `{expected}` in:\n{figures}\n{errors}"
        );
    }
    let keyframes = figures
        .lines()
        .find(|line| line.contains("first complete keyframe"));
    assert!(!keyframes.unwrap().contains("(0 samples)"), "{figures}");
}
