//! Documents that name files which do not exist mislead; a map that does not fit on a few pages is none.

use crate::repository::Repository;
use std::path::Path;

const MAP_LINES_MAX: usize = 200;

/// Links and paths that lead nowhere.
pub fn dead_links(repository: &Repository) -> Vec<String> {
    let mut violations = Vec::new();
    for (name, text) in &repository.documents {
        let place = Path::new(name).parent().unwrap_or(Path::new(""));
        for (number, line) in outside_of_code_blocks(text) {
            let links = targets(line).into_iter().filter(|target| !is_elsewhere(target)).map(|target| {
                let file = target.split('#').next().unwrap_or_default();
                (target.to_string(), file.is_empty() || repository.root.join(place).join(file).exists())
            });
            let paths = quoted(line).into_iter().filter(|path| looks_like_ours(repository, path)).map(|path| {
                (
                    path.to_string(),
                    repository.root.join(path).exists() || repository.root.join(place).join(path).exists(),
                )
            });
            let dead = links.chain(paths).filter(|(_, exists)| !exists);
            violations.extend(dead.map(|(target, _)| format!("{name}:{number}: {target} does not exist")));
        }
    }
    violations
}

/// Tests that a document names as `file.rs::test` and that are not there.
pub fn missing_tests(repository: &Repository) -> Vec<String> {
    let mut violations = Vec::new();
    for (name, text) in &repository.documents {
        for (number, line) in outside_of_code_blocks(text) {
            for (file, test) in quoted(line).into_iter().filter_map(|words| words.split_once(".rs::")) {
                let source = std::fs::read_to_string(repository.root.join(format!("{file}.rs")));
                if !source.is_ok_and(|source| source.contains(&format!("fn {test}("))) {
                    violations.push(format!("{name}:{number}: {file}.rs has no test {test}"));
                }
            }
        }
    }
    violations
}

/// Lines too many on the map.
pub fn long_map(repository: &Repository) -> Vec<String> {
    let lines = repository.text("ARCHITECTURE.md").lines().count();
    if lines > MAP_LINES_MAX { vec![format!("ARCHITECTURE.md:{MAP_LINES_MAX}: {lines} lines")] } else { Vec::new() }
}

fn outside_of_code_blocks(text: &str) -> Vec<(usize, &str)> {
    let mut inside = false;
    let numbered = text.lines().enumerate().map(|(number, line)| (number + 1, line));
    numbered
        .filter(|(_, line)| {
            let fence = line.trim_start().starts_with("```");
            inside ^= fence;
            !inside && !fence
        })
        .collect()
}

fn is_elsewhere(target: &str) -> bool {
    target.contains("://") || target.starts_with("mailto:")
}

/// `[words](target)`.
fn targets(line: &str) -> Vec<&str> {
    line.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect()
}

/// Between backticks.
fn quoted(line: &str) -> Vec<&str> {
    line.split('`').skip(1).step_by(2).collect()
}

/// A path that begins with one of the workspace's own directories.
fn looks_like_ours(repository: &Repository, path: &str) -> bool {
    let plain = path.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
    let Some((first, _)) = path.split_once('/') else {
        return false;
    };
    let ours = ["protocol", "syncd", "syncctl", "tests", "packaging", ".ci", "docs", "src"];
    plain && ours.contains(&first) && (first != "src" || repository.root.join(first).exists())
}
