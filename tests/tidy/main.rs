//! The house rules that no compiler keeps: who may import whom, how long files and functions get, what a test may
//! not do, and that the documents speak of files that exist. Each violation is one line `file:line: what`.

mod documents;
mod edges;
mod limits;
mod repository;
mod source;

use repository::Repository;

/// Fails with every violation, not only the first.
fn report(rule: &str, violations: &[String]) {
    assert!(violations.is_empty(), "{rule}:\n  {}\n", violations.join("\n  "));
}

#[test]
fn every_file_says_what_it_is_for() {
    report("a Rust file opens with `//!`", &limits::without_essay(&Repository::read()));
}

#[test]
fn files_are_short() {
    report("a file has at most 600 lines", &limits::long_files(&Repository::read()));
}

#[test]
fn functions_are_short() {
    report("a function has at most 70 lines, a flat match excepted", &limits::long_functions(&Repository::read()));
}

#[test]
fn nothing_is_left_undone_or_left_to_chance() {
    report("no todo, no ignored test, no sleeping test", &limits::forbidden_words(&Repository::read()));
}

#[test]
fn modules_import_only_what_they_may() {
    report("imports follow ARCHITECTURE.md", &edges::imports(&Repository::read()));
}

#[test]
fn packages_depend_only_on_what_they_may() {
    report("packages keep apart", &edges::packages(&Repository::read()));
}

#[test]
fn only_the_folder_owns_an_engine() {
    report("`Engine::new` stands in `folder` only", &edges::engines(&Repository::read()));
}

#[test]
fn connections_are_made_in_one_place() {
    report("only `connect.rs` connects and looks names up", &edges::ways_out(&Repository::read()));
}

#[test]
fn documents_name_tests_that_exist() {
    report("a test that a document names exists", &documents::dead_tests(&Repository::read()));
}

#[test]
fn documents_speak_of_files_that_exist() {
    report("links and paths in documents resolve", &documents::dead_links(&Repository::read()));
}

#[test]
fn the_map_fits_on_a_few_pages() {
    report("ARCHITECTURE.md has at most 200 lines", &documents::long_map(&Repository::read()));
}
