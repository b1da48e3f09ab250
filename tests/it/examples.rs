//! Every folder under `examples/` has a README and a configuration that `authtap check` passes.

use std::fs;
use std::path::PathBuf;

use authtap::config::settings;

fn folders() -> Vec<PathBuf> {
    let all = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    let mut found: Vec<PathBuf> =
        fs::read_dir(all).expect("examples").map(|entry| entry.expect("an entry").path()).collect();
    found.retain(|path| path.is_dir());
    found.sort();
    found
}

#[test]
fn every_example_is_found() {
    let names: Vec<String> =
        folders().iter().map(|f| f.file_name().unwrap_or_default().to_string_lossy().into_owned()).collect();
    for name in ["crowdsec", "docker-compose", "fail2ban", "kubernetes-sidecar", "nginx-in-front", "systemd"] {
        assert!(names.iter().any(|n| n == name), "examples/{name} is missing from {names:?}");
    }
}

#[test]
fn every_example_has_a_readme_that_names_its_files() {
    for folder in folders() {
        let readme = fs::read_to_string(folder.join("README.md"));
        let readme = readme.unwrap_or_else(|e| panic!("{}: README.md: {e}", folder.display()));
        for entry in fs::read_dir(&folder).expect("a folder") {
            let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
            assert!(
                name == "README.md" || readme.contains(&name),
                "{}: README.md does not name {name}",
                folder.display()
            );
        }
    }
}

#[test]
fn every_routes_yaml_has_neither_errors_nor_warnings() {
    for folder in folders() {
        let file = folder.join("routes.yaml");
        let source = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let (config, problems) = settings::check(&file.display().to_string(), &source);
        let lacking = problems.to_string().matches("it lacks the feature").count();
        if lacking > 0 {
            assert!(source.contains("# needs: --features"), "{}: the example does not say so", file.display());
            assert_eq!(problems.counts(), (lacking, 0), "{problems}");
            continue;
        }
        assert!(problems.is_empty(), "{problems}");
        let config = config.expect("no problems, so a configuration");
        assert!(!config.rules.routes().is_empty(), "{}: no routes", file.display());
        assert!(config.upstream.is_some(), "{}: no upstream", file.display());
    }
}

/// The manifest carries its configuration inside a ConfigMap; it must be the file beside it.
#[test]
fn the_configmap_of_the_kubernetes_example_is_its_routes_yaml() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/kubernetes-sidecar");
    let manifest = fs::read_to_string(format!("{folder}/manifest.yaml")).unwrap();
    let routes = fs::read_to_string(format!("{folder}/routes.yaml")).unwrap();
    let (_, after) = manifest.split_once("  routes.yaml: |\n").expect("the manifest has a ConfigMap");
    let inner: Vec<&str> = after.lines().take_while(|l| l.is_empty() || l.starts_with("    ")).collect();
    let inner: Vec<&str> = inner.iter().map(|l| l.strip_prefix("    ").unwrap_or(l)).collect();
    assert_eq!(inner.join("\n").trim_end(), routes.trim_end());
}
