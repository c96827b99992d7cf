//! The walls of the house, as tests: what may be named where, how long a file may be, and that the documents and the
//! code agree. Each rule says why it stands; each is shown to fail on a planted violation.
#![allow(clippy::expect_used, reason = "a test may fail loudly, its helpers too")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::broker::{DELAY_STEPS, Stage, Topology};

/// A tracked file: its path from the root of the repository, and its text.
struct File {
    path: String,
    text: String,
}

impl File {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    fn is_rust(&self) -> bool {
        Path::new(&self.path).extension().is_some_and(|extension| extension == "rs")
    }

    /// Tests may name what they please.
    fn is_test(&self) -> bool {
        self.path.starts_with("tests/") || self.path.contains("/tests/") || self.path.ends_with("/tests.rs")
    }

    fn is_under(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }

    /// The lines above the file's tests.
    fn production(&self) -> String {
        let lines: Vec<_> = self.text.lines().collect();
        let tests = lines.windows(2).position(|pair| {
            pair.iter().map(|line| line.trim()).eq(["#[cfg(test)]", "mod tests {"])
                || pair.iter().map(|line| line.trim()).eq(["#[cfg(test)]", "mod tests;"])
        });
        lines.iter().take(tests.unwrap_or(lines.len())).map(|line| format!("{line}\n")).collect()
    }

    /// The words of [`File::production`], without comments and literals.
    fn words(&self) -> Vec<String> {
        words(&self.production())
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every text file that git tracks or would track.
fn repository() -> Vec<File> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git lists the files");
    assert!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    let paths = String::from_utf8(listed.stdout).expect("paths are UTF-8");
    let files: Vec<_> = paths
        .split_terminator('\0')
        .filter_map(|path| Some(File::new(path, &std::fs::read_to_string(root().join(path)).ok()?)))
        .collect();
    assert!(files.len() > 20, "only {} files found", files.len());
    files
}

/// Splits code into names and single other characters, leaving out comments and the contents of literals.
/// `::` is one word, so that paths can be followed.
fn words(code: &str) -> Vec<String> {
    let chars: Vec<char> = code.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut words = Vec::new();
    let mut i = 0;
    while i < chars.len() {
        let from = i;
        i = match (at(i), at(i + 1)) {
            ('/', '/') => skip(i, |i| i >= chars.len() || at(i) == '\n'),
            ('/', '*') => skip(i + 2, |i| i >= chars.len() || (at(i - 1), at(i)) == ('*', '/')) + 1,
            ('r', '"' | '#') if at(i + 1) == '"' || at(skip(i + 1, |i| at(i) != '#')) == '"' => {
                let hashes = skip(i + 1, |i| at(i) != '#') - i - 1;
                let closes = |i: usize| at(i) == '"' && (1..=hashes).all(|n| at(i + n) == '#');
                skip(i + hashes + 2, |i| i >= chars.len() || closes(i)) + hashes + 1
            }
            ('"', _) => {
                let mut end = i + 1;
                while end < chars.len() && at(end) != '"' {
                    end += if at(end) == '\\' { 2 } else { 1 };
                }
                end + 1
            }
            ('\'', '\\') => skip(i + 3, |i| i >= chars.len() || at(i) == '\'') + 1,
            ('\'', _) if at(i + 2) == '\'' => i + 3,
            (':', ':') => i + 2,
            (c, _) if is_name(c) => skip(i, |i| !is_name(at(i))),
            _ => i + 1,
        };
        let word: String = chars.get(from..i.min(chars.len())).unwrap_or_default().iter().collect();
        let is_comment = word.starts_with("//") || word.starts_with("/*");
        let is_literal = word.contains('"') || (word.starts_with('\'') && word.len() > 1);
        let is_left_out = is_comment || is_literal || word.trim().is_empty();
        if !is_left_out {
            words.push(word);
        }
    }
    words
}

/// The first index from `i` on where `done` holds.
fn skip(i: usize, done: impl Fn(usize) -> bool) -> usize {
    (i..).find(|i| done(*i)).unwrap_or(i)
}

/// Whether code names the crate `name`: as the first segment of a path, unless the file made that name its own.
fn names_crate(words: &[String], name: &str) -> bool {
    let before = |i: usize, n: usize| i.checked_sub(n).and_then(|i| words.get(i)).map_or("", String::as_str);
    let is_own = |i: usize| {
        let statement = words.get(..i).unwrap_or_default().rsplit(|word| word == ";").next().unwrap_or_default();
        before(i, 1) == "mod" || statement.iter().position(|w| w == "use").is_some_and(|at| at + 1 < statement.len())
    };
    let named: Vec<usize> = (0..words.len()).filter(|i| words.get(*i).is_some_and(|word| word == name)).collect();
    let is_local = named.iter().any(|i| is_own(*i) && before(*i, 2) != "use");
    named.iter().any(|i| {
        let follows_path =
            before(*i, 1) == "::" && (before(*i, 2).starts_with(|c: char| c.is_alphanumeric() || c == '_'));
        let opens_path = before(*i, 1) == "use" || words.get(i + 1).is_some_and(|word| word == "::");
        opens_path && !follows_path && (before(*i, 1) == "::" || before(*i, 1) == "use" || !(is_local || is_own(*i)))
    })
}

/// A wall: only these places may name this crate.
struct Wall {
    dependency: &'static str,
    places: &'static [&'static str],
    manifests: &'static [&'static str],
    reason: &'static str,
}

const WALLS: [Wall; 5] = [
    Wall {
        dependency: "lapin",
        places: &["common/src/broker/rabbitmq/", "bench/"],
        manifests: &["Cargo.toml", "common/Cargo.toml", "tests/Cargo.toml", "bench/Cargo.toml"],
        reason: "RabbitMQ is one adapter of the broker port; whoever names its client is bound to it",
    },
    Wall {
        dependency: "redis",
        places: &["common/src/store/redis/", "bench/"],
        manifests: &["Cargo.toml", "common/Cargo.toml", "tests/Cargo.toml", "bench/Cargo.toml"],
        reason: "Redis is one adapter of the store port; whoever names its client is bound to it",
    },
    Wall {
        dependency: "rusqlite",
        places: &["common/src/broker/embedded/", "common/src/store/embedded/", "bench/"],
        manifests: &["Cargo.toml", "common/Cargo.toml", "tests/Cargo.toml", "bench/Cargo.toml"],
        reason: "the embedded file has one writer, behind the two ports",
    },
    Wall {
        dependency: "reqwest",
        places: &["common/src/http.rs", "common/src/providers/", "worker/src/assistant/", "simulator/"],
        manifests: &[
            "Cargo.toml",
            "common/Cargo.toml",
            "worker/Cargo.toml",
            "simulator/Cargo.toml",
            "tests/Cargo.toml",
        ],
        reason: "HTTP calls belong to a provider or an assistant, through the client of common::http",
    },
    Wall {
        dependency: "backoff",
        places: &["common/src/retry/"],
        manifests: &["Cargo.toml", "common/Cargo.toml"],
        reason: "the crate is unmaintained: replacing it must stay a change of one file",
    },
];

fn breaches(files: &[File], wall: &Wall) -> Vec<String> {
    let in_code = files.iter().filter(|file| {
        file.is_rust() && !file.is_test() && !file.is_under(wall.places) && names_crate(&file.words(), wall.dependency)
    });
    let in_manifest = files.iter().filter(|file| {
        let lines = || file.text.lines().filter_map(|line| line.split(['=', '.']).next());
        file.path.ends_with("Cargo.toml")
            && !wall.manifests.contains(&file.path.as_str())
            && lines().any(|name| name.trim() == wall.dependency)
    });
    let say = |file: &File| format!("{} names {}: {}", file.path, wall.dependency, wall.reason);
    in_code.map(say).chain(in_manifest.map(say)).collect()
}

/// Names that a service's code may not hold.
struct Ban {
    place: &'static str,
    /// Lower case; a name that holds one of them is a breach.
    names: &'static [&'static str],
    reason: &'static str,
}

const BANS: [Ban; 3] = [
    Ban {
        place: "ingress/src/",
        names: &["assistant", "carrier", "store"],
        reason: "the front door acknowledges without asking anybody but the broker, else a slow neighbour loses texts",
    },
    Ban {
        place: "worker/src/",
        names: &["carrier"],
        reason: "only the sender talks to a provider's REST API, so that rates and the send ledger hold",
    },
    Ban {
        place: "sender/src/",
        names: &["assistant"],
        reason: "the sender delivers parts; what an assistant makes of a failure is the worker's turn",
    },
];

fn banned_names(files: &[File], ban: &Ban) -> Vec<String> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.is_rust() && !file.is_test() && file.is_under(&[ban.place])) {
        for word in file.words().iter().collect::<BTreeSet<_>>() {
            if ban.names.iter().any(|name| word.to_lowercase().contains(name)) {
                found.push(format!("{} names `{word}`: {}", file.path, ban.reason));
            }
        }
    }
    found
}

/// The services that production runs on.
const PRODUCTION: [&str; 4] = ["common/Cargo.toml", "ingress/Cargo.toml", "sender/Cargo.toml", "worker/Cargo.toml"];

fn simulator_dependencies(files: &[File]) -> Vec<String> {
    let depends = |file: &&File| {
        let lines = file.text.lines().map(str::trim).skip_while(|line| *line != "[dependencies]").skip(1);
        let mut names =
            lines.take_while(|line| !line.starts_with('[')).filter_map(|line| line.split(['=', '.']).next());
        names.any(|name| name.trim() == "simulator")
    };
    let services = files.iter().filter(|file| PRODUCTION.contains(&file.path.as_str()));
    services.filter(depends).map(|file| format!("{} depends on the simulator", file.path)).collect()
}

fn environment_readers(files: &[File]) -> Vec<String> {
    let reads = |file: &&File| file.words().windows(3).any(|words| words == ["std", "::", "env"]);
    let may = ["common/src/config/", "cli/src/main.rs"];
    let code = files.iter().filter(|file| file.is_rust() && !file.is_test() && !file.is_under(&may));
    code.filter(reads)
        .map(|file| format!("{} reads the environment: settings come through common::config", file.path))
        .collect()
}

fn unopened(files: &[File]) -> Vec<String> {
    let silent = files.iter().filter(|file| file.is_rust() && !file.text.starts_with("//! "));
    silent.map(|file| format!("{} does not open with `//!` lines that say what it is for", file.path)).collect()
}

/// No file has more code than this.
const MOST_LINES: usize = 400;
/// Half of all files have at most this much.
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
    // In two halves, so that this file does not hold them.
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

/// Whether `line` holds the absolute path `place`, and not a longer relative one that ends so.
fn holds_path(line: &str, place: &str) -> bool {
    let is_start =
        |at: usize| !line.get(..at).unwrap_or_default().ends_with(|c: char| c.is_alphanumeric() || "-_.}".contains(c));
    line.match_indices(place).any(|(at, _)| is_start(at))
}

/// The shape of every queue and exchange name, as ARCHITECTURE.md writes it.
fn name_shapes() -> BTreeSet<String> {
    let topology = Topology::new("<p>", 2);
    let mut shapes = BTreeSet::from([
        topology.dead_exchange(),
        topology.dead_lock(),
        topology.probe(),
        topology.in_force(),
        topology.in_force_lock(),
    ]);
    for stage in Stage::ALL {
        shapes.insert(topology.exchange(stage));
        shapes.insert(topology.dead_queue(stage));
        shapes.insert(topology.queue(stage, 0));
        shapes.insert(topology.delay(stage, "<step>").replace(stage.as_str(), "<stage>"));
    }
    shapes
}

fn architecture_gaps(architecture: &str) -> Vec<String> {
    let quoted: BTreeSet<_> = architecture.split('`').skip(1).step_by(2).collect();
    let shapes = name_shapes();
    let missing = shapes.iter().filter(|shape| !quoted.contains(shape.as_str()));
    let stale = quoted.iter().filter(|name| name.starts_with("<p>.") && !shapes.contains(**name));
    let text: BTreeSet<_> = architecture.split(|c: char| !c.is_alphanumeric()).collect();
    let steps = DELAY_STEPS.iter().filter(|(step, _)| !text.contains(step));
    let missing = missing.map(|name| format!("ARCHITECTURE.md does not list `{name}`: operators look queues up there"));
    let stale = stale.map(|name| format!("ARCHITECTURE.md lists `{name}`, which topology.rs does not make"));
    let steps = steps.map(|(step, _)| format!("ARCHITECTURE.md does not list the delay step `{step}`"));
    missing.chain(stale).chain(steps).collect()
}

fn assert_none(found: &[String]) {
    assert!(found.is_empty(), "\n  {}\n", found.join("\n  "));
}

#[test]
fn every_dependency_stays_behind_its_wall() {
    let files = repository();
    assert_none(&WALLS.iter().flat_map(|wall| breaches(&files, wall)).collect::<Vec<_>>());
}

#[test]
fn no_service_names_what_another_one_does() {
    let files = repository();
    assert_none(&BANS.iter().flat_map(|ban| banned_names(&files, ban)).collect::<Vec<_>>());
}

#[test]
fn production_never_depends_on_the_simulator() {
    assert_none(&simulator_dependencies(&repository()));
}

#[test]
fn only_the_configuration_reads_the_environment() {
    assert_none(&environment_readers(&repository()));
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
fn architecture_lists_every_queue_and_exchange() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md is there");
    assert_none(&architecture_gaps(&text));
}

#[test]
fn name_shapes_covers_every_name_the_topology_makes() {
    let files = repository();
    let topology =
        files.iter().find(|file| file.path == "common/src/broker/topology.rs").expect("the topology is there");
    let makers = topology.production().matches("-> String").count();
    assert_eq!(makers, 9, "a function of topology.rs that makes a name came or went: adapt name_shapes and this count");
}

#[test]
fn the_image_is_built_with_the_toolchain_of_the_repository() {
    let read = |path| std::fs::read_to_string(root().join(path)).expect("it is there");
    let toolchain: toml::Table = read("rust-toolchain.toml").parse().expect("it is TOML");
    let channel = toolchain["toolchain"]["channel"].as_str().expect("it names a version").to_owned();
    let from = format!("FROM rust:{channel}-");
    assert!(read("Dockerfile").contains(&from), "Dockerfile does not say `{from}…`, as rust-toolchain.toml wants");
}

#[test]
fn planted_crates_are_found_and_look_alikes_are_not() {
    let plant = |path: &str, text: &str| breaches(&[File::new(path, text)], &WALLS[1]).len();
    assert_eq!(plant("worker/src/turn.rs", "use redis::Client;"), 1);
    assert_eq!(plant("worker/src/turn.rs", "fn f() { let c = redis::Client::open(); }"), 1);
    assert_eq!(plant("worker/src/turn.rs", "mod redis;\nfn f() { ::redis::cmd(); }"), 1);
    assert_eq!(plant("worker/Cargo.toml", "[dependencies]\nredis.workspace = true\n"), 1);
    assert_eq!(plant("common/src/store/redis/mod.rs", "use redis::Client;"), 0);
    assert_eq!(plant("worker/src/turn.rs", "// redis::Client\nconst A: &str = \"redis::\";"), 0);
    assert_eq!(plant("worker/src/turn.rs", "use common::store::{embedded, redis};\nfn f() { redis::open(); }"), 0);
    assert_eq!(plant("worker/src/turn.rs", "fn f() { store::redis::open(); }"), 0);
    assert_eq!(plant("worker/src/turn.rs", "fn f() {}\n#[cfg(test)]\nmod tests {\nuse redis::Client;\n}"), 0);
    for wall in &WALLS {
        let planted = File::new("sender/src/lib.rs", &format!("use {}::Thing;", wall.dependency));
        assert_eq!(breaches(&[planted], wall).len(), 1, "{}", wall.dependency);
    }
}

#[test]
fn planted_names_are_found_in_code_and_not_in_prose() {
    for ban in &BANS {
        for name in ban.names {
            let code = File::new(&format!("{}part.rs", ban.place), &format!("fn f(x: My{name}) {{}}"));
            assert_eq!(banned_names(&[code], ban).len(), 1, "{name} in {}", ban.place);
            let prose = File::new(
                &format!("{}part.rs", ban.place),
                &format!("/* {name} */ // {name}\n/// {name}\nfn f() {{ g('\"', \"{name}\", r#\"\"{name}\"#) }}"),
            );
            assert_none(&banned_names(&[prose], ban));
        }
    }
}

#[test]
fn planted_manifests_and_environment_reads_are_found() {
    let depends = File::new("ingress/Cargo.toml", "[dependencies]\nsimulator.workspace = true\n");
    assert_eq!(simulator_dependencies(&[depends]).len(), 1);
    let tested_with =
        File::new("ingress/Cargo.toml", "[dependencies]\nhttp = \"1\"\n[dev-dependencies]\nsimulator = {}\n");
    assert_none(&simulator_dependencies(&[tested_with]));
    assert_eq!(environment_readers(&[File::new("sender/src/lib.rs", "use std::env;")]).len(), 1);
    assert_none(&environment_readers(&[File::new("common/src/config/mod.rs", "use std::env;")]));
}

#[test]
fn planted_long_unopened_and_vague_files_are_found() {
    let long = File::new("sender/src/lib.rs", &"//! words\n".repeat(MOST_LINES + 1));
    assert_eq!(oversized(&[long]).len(), 2, "too long, and so is the median");
    let tested =
        File::new("sender/src/lib.rs", &format!("//! words\n#[cfg(test)]\nmod tests {{\n{}}}\n", "\n".repeat(500)));
    assert_none(&oversized(&[tested]));
    assert_eq!(unopened(&[File::new("sender/src/lib.rs", "fn f() {}")]).len(), 1);
    for path in ["common/src/util/mod.rs", "common/src/helpers.rs", "docs/misc.md", "worker/types.rs"] {
        assert_eq!(catch_alls(&[File::new(path, "")]).len(), 1, "{path}");
    }
    assert_none(&catch_alls(&[File::new("common/src/utility_poles.rs", "")]));
}

#[test]
fn planted_machine_paths_are_found() {
    let plant = |line: String| machine_paths(&[File::new("README.md", &line)]).len();
    assert_eq!(plant(["see /wor", "k/notes"].concat()), 1);
    assert_eq!(plant(["cd /ho", "me/somebody"].concat()), 1);
    assert_eq!(plant(["https://example.com/net/wor", "k/x"].concat()), 0);
}

#[test]
fn planted_gaps_in_architecture_are_found() {
    let whole: String = name_shapes().iter().map(|name| format!("`{name}`\n")).collect();
    let steps: String = DELAY_STEPS.iter().map(|(step, _)| format!("{step}, ")).collect();
    assert_none(&architecture_gaps(&format!("{whole}{steps}")));
    assert_eq!(architecture_gaps(&whole).len(), DELAY_STEPS.len());
    assert_eq!(architecture_gaps(&format!("{whole}{steps}`<p>.old`")).len(), 1);
    assert_eq!(architecture_gaps(&format!("{whole}{steps}").replace("`<p>.probe`", "")).len(), 1);
}
