//! The rules for every file: it opens with its purpose, is short, has a meaningful name, and contains no path of a
//! machine.

use super::{File, assert_none, repository};

fn unopened(files: &[File]) -> Vec<String> {
    let silent = files.iter().filter(|file| file.is_rust() && !file.text.starts_with("//! "));
    silent.map(|file| format!("{} does not open with `//!` lines that say what it is for", file.path)).collect()
}

/// The most lines of a file, above its tests.
const MOST_LINES: usize = 400;
/// The most lines of the median file, above its tests.
const MEDIAN_LINES: usize = 120;

fn oversized(files: &[File]) -> Vec<String> {
    let code = files.iter().filter(|file| file.is_rust() && !file.is_test());
    let mut sizes: Vec<_> = code.map(|file| (file.production().lines().count(), file.path.as_str())).collect();
    sizes.sort_unstable();
    let large = sizes.iter().filter(|(lines, _)| *lines > MOST_LINES);
    let mut found: Vec<_> = large
        .map(|(lines, path)| {
            format!("{path} has {lines} lines above its tests, at most {MOST_LINES}: one idea, one file")
        })
        .collect();
    if let Some((median, _)) = sizes.get(sizes.len() / 2).filter(|(median, _)| *median > MEDIAN_LINES) {
        found.push(format!("the median file has {median} lines above its tests, at most {MEDIAN_LINES}"));
    }
    found
}

fn catch_alls(files: &[File]) -> Vec<String> {
    let vague = ["util", "utils", "helpers", "misc", "types"];
    let is_vague = |file: &&File| file.path.split(['/', '.']).any(|part| vague.contains(&part));
    let named = files.iter().filter(is_vague);
    named.map(|file| format!("{}: name it after the one idea it holds, in the field's word", file.path)).collect()
}

fn machine_paths(files: &[File]) -> Vec<String> {
    // The paths are split in two, so that this file does not contain them.
    let places = [["/wor", "k/"], ["/tmp/", "wt/"], ["/tmp/", "brief"], ["/ho", "me/"], ["/Use", "rs/"]]
        .map(|halves| halves.concat());
    let mut found = Vec::new();
    for file in files {
        let lines = file.text.lines().enumerate();
        for (number, line) in lines.filter(|(_, line)| places.iter().any(|place| holds_path(line, place))) {
            found.push(format!("{}:{}: a path of somebody's machine: {}", file.path, number + 1, line.trim()));
        }
    }
    found
}

/// Whether `line` contains the absolute path `place`. A longer relative path with the same end does not count.
fn holds_path(line: &str, place: &str) -> bool {
    let is_start =
        |at: usize| !line.get(..at).unwrap_or_default().ends_with(|c: char| c.is_alphanumeric() || "-_.}".contains(c));
    line.match_indices(place).any(|(at, _)| is_start(at))
}

#[test]
fn every_file_opens_with_its_purpose() {
    assert_none(&unopened(&repository()));
}

#[test]
fn files_stay_short() {
    assert_none(&oversized(&repository()));
}

#[test]
fn no_file_is_a_drawer_for_everything() {
    assert_none(&catch_alls(&repository()));
}

#[test]
fn no_file_holds_a_path_of_somebodys_machine() {
    assert_none(&machine_paths(&repository()));
}

#[test]
fn planted_long_unopened_and_vague_files_are_found() {
    let long = File::new("sender/src/lib.rs", &"//! words\n".repeat(MOST_LINES + 1));
    assert_eq!(oversized(&[long]).len(), 2, "too long, and so is the median");
    let tested =
        File::new("sender/src/lib.rs", &format!("//! words\n#[cfg(test)]\nmod tests {{\n{}}}\n", "\n".repeat(500)));
    assert_none(&oversized(&[tested]));
    assert_eq!(unopened(&[File::new("sender/src/lib.rs", "fn f() {}")]).len(), 1);
    for path in ["common/util/src/lib.rs", "common/work/src/helpers.rs", "docs/misc.md", "worker/types.rs"] {
        assert_eq!(catch_alls(&[File::new(path, "")]).len(), 1, "{path}");
    }
    assert_none(&catch_alls(&[File::new("common/work/src/utility_poles.rs", "")]));
}

#[test]
fn planted_machine_paths_are_found() {
    let plant = |line: String| machine_paths(&[File::new("README.md", &line)]).len();
    assert_eq!(plant(["see /wor", "k/notes"].concat()), 1);
    assert_eq!(plant(["cd /ho", "me/somebody"].concat()), 1);
    assert_eq!(plant(["https://example.com/net/wor", "k/x"].concat()), 0);
}
