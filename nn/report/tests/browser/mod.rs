//! Shows a page in a headless Chromium and measures it.

use std::{fs, process::Command};

/// What a browser says about a page.
pub(crate) struct Shown {
    /// The pictures that have a size and, if they are images, pixels.
    pub(crate) pictures: usize,
    /// The width that the contents need.
    pub(crate) scroll_width: usize,
    /// What it complains about.
    pub(crate) errors: Vec<String>,
}

/// Loads the page into a frame of this width, since windows have a least width, and writes what it
/// measures into the title.
const FRAME: &str = r#"<!doctype html><title>none</title>
<iframe src="page.html" width="WIDTH" height="900" style="border:0" onload="measure(this)"></iframe>
<script>
function measure(frame) {
  const page = frame.contentDocument, size = e => e.getBoundingClientRect();
  const all = [...page.querySelectorAll('svg, img')].filter(e => size(e).width > 10 && size(e).height > 10);
  const shown = all.filter(e => e.tagName != 'IMG' || e.naturalWidth > 0);
  document.title = 'measured ' + shown.length + ' ' + page.documentElement.scrollWidth;
}
</script>"#;

/// Shows it in a frame of this width; none, with a message, if there is no browser. `CHROMIUM` names
/// one that is not on the path.
pub(crate) fn show(page: &str, width: usize) -> Option<Shown> {
    let folder = tempfile::tempdir().expect("a temporary directory");
    fs::write(folder.path().join("page.html"), page).expect("writable");
    let frame = folder.path().join("frame.html");
    fs::write(&frame, FRAME.replace("WIDTH", &width.to_string())).expect("writable");
    let named = std::env::var("CHROMIUM").ok();
    let names = ["chromium", "chromium-browser", "google-chrome"].map(String::from);
    let profile = format!(
        "--user-data-dir={}",
        folder.path().join("profile").display()
    );
    let output = named.into_iter().chain(names).find_map(|browser| {
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--allow-file-access-from-files",
            "--enable-logging=stderr",
            "--virtual-time-budget=20000",
            "--dump-dom",
            &profile,
        ];
        Command::new(browser)
            .args(arguments)
            .arg(format!("file://{}", frame.display()))
            .output()
            .ok()
    });
    let Some(output) = output else {
        eprintln!("skipped: there is no Chromium; CHROMIUM can name one");
        return None;
    };
    let (dom, log) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    let title = dom
        .split("<title>measured ")
        .nth(1)
        .and_then(|rest| rest.split('<').next());
    let numbers: Vec<usize> = title
        .unwrap_or_else(|| panic!("no measure: {dom} {log}"))
        .split(' ')
        .filter_map(|n| n.parse().ok())
        .collect();
    let errors = log.lines().filter(|line| line.contains(":CONSOLE"));
    Some(Shown {
        pictures: numbers[0],
        scroll_width: numbers[1],
        errors: errors.map(str::to_string).collect(),
    })
}
