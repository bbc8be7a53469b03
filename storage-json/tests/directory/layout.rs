//! What stands in the directory, and what is refused there.

use super::*;

#[tokio::test]
async fn a_clean_close_leaves_the_nine_files_complete_and_the_journal_empty() {
    let (_temp, dir) = closed_store().await;
    for name in NINE {
        let text = fs::read_to_string(dir.join(name)).unwrap();
        serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text).unwrap();
    }
    let balances = fs::read_to_string(dir.join("user_balances.json")).unwrap();
    assert_eq!(balances, "{\n  \"1\": 10.00,\n  \"2\": 20.00,\n  \"3\": 30.00\n}\n");
    assert!(fs::read(journal_of(&dir)).unwrap().iter().all(|byte| *byte == 0));
}

#[cfg(unix)]
#[tokio::test]
async fn files_are_private_and_an_existing_mode_stays() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_temp, dir) = closed_store().await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for path in bytes_of(&dir).keys() {
        assert_eq!(mode(path), 0o600, "{}", path.display());
    }
    let balances = dir.join("user_balances.json");
    fs::set_permissions(&balances, fs::Permissions::from_mode(0o640)).unwrap();
    let storage = open(&dir).await.unwrap();
    credit(&storage, 1, "5").await;
    storage.close().await.unwrap();
    assert_eq!(mode(&balances), 0o640);
    assert!(fs::read_to_string(&balances).unwrap().contains("\"1\": 15.00"));
}

#[tokio::test]
async fn our_own_files_changed_or_a_listed_one_missing_is_corrupt() {
    for (name, damage) in [
        ("users.json", true),
        ("balance_reserves.json", true),
        ("ledger.jsonl", true),
        ("manifest.json", true),
        ("users.json", false),
        ("payments.json", false),
        ("ledger.jsonl", false),
    ] {
        let (_temp, dir) = closed_store().await;
        if damage {
            edit(&dir.join(name), |text| {
                if name == "manifest.json" {
                    text.replacen("\"seq\": ", "\"seq\": 1", 1)
                } else {
                    let end = text.rfind('}').unwrap();
                    format!("{}7{}", &text[..end], &text[end..])
                }
            });
        } else {
            away::remove(&dir.join(name));
        }
        let before = bytes_of(&dir);
        let error = open(&dir).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Corrupt(place) if place.source.contains(name)), "{name}: {error}");
        let mut after = bytes_of(&dir);
        // An empty ledger is made anew before its length is judged.
        after.retain(|path, bytes| before.contains_key(path) || !bytes.is_empty());
        assert_eq!(after, before, "{name}");
    }
}

#[tokio::test]
async fn a_lost_manifest_is_no_empty_store() {
    let (_temp, dir) = closed_store().await;
    away::remove(&dir.join("manifest.json"));
    let error = open(&dir).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::SchemaMismatch { .. }), "{error}");
    assert!(error.to_string().contains("storage import"), "{error}");
}

#[tokio::test]
async fn a_directory_of_the_earlier_system_is_not_ours() {
    let temp = tempfile::tempdir().unwrap();
    put(&temp.path().join("user_balances.json"), b"{\"1\": 5}");
    let before = bytes_of(temp.path());
    let error = open(temp.path()).await.unwrap_err();
    let ErrorKind::SchemaMismatch { run, .. } = error.kind() else { panic!("{error}") };
    assert!(run.starts_with("storage import"), "{run}");
    assert_eq!(bytes_of(temp.path()), before);
}

#[cfg(unix)]
#[tokio::test]
async fn symlinks_and_directories_in_place_of_files_are_refused() {
    for name in ["user_balances.json", "users.json", "manifest.json", "ledger.jsonl", "journal.head", "writer.lock"] {
        let (temp, dir) = closed_store().await;
        let (file, elsewhere) = (dir.join(name), temp.path().join("elsewhere"));
        fs::copy(&file, &elsewhere).unwrap();
        away::remove(&file);
        std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
        let error = open(&dir).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Corrupt(_)), "{name}: {error}");
        assert!(error.to_string().contains("symbolic link"), "{name}: {error}");

        let (_temp, dir) = closed_store().await;
        away::remove(&dir.join(name));
        fs::create_dir(dir.join(name)).unwrap();
        let error = open(&dir).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Corrupt(_)), "{name}: {error}");
        assert!(error.to_string().contains("directory"), "{name}: {error}");
    }
}
