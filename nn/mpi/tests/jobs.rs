//! Jobs of several processes: the same bits on any number of them, and what happens when one fails or is
//! killed. They run on one machine, with more ranks than cores if need be.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

/// The path of an example program. `cargo test` builds it next to the tests.
fn program(name: &str) -> PathBuf {
    let tests = std::env::current_exe().expect("a running test");
    let target = tests.parent().and_then(Path::parent);
    target
        .expect("target/profile/deps/test")
        .join("examples")
        .join(name)
}

/// A command that starts an example on so many ranks.
fn job(name: &str, ranks: usize, args: &[&str]) -> Command {
    let mut command = Command::new("mpirun");
    command
        .args(["-n", &ranks.to_string()])
        .arg(program(name))
        .args(args);
    // in a container, tests run as root, and on fewer cores than ranks
    command
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .env("OMPI_MCA_rmaps_base_oversubscribe", "1")
        .env("OMPI_MCA_hwloc_base_binding_policy", "none")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn output(name: &str, ranks: usize, args: &[&str]) -> Output {
    job(name, ranks, args)
        .output()
        .expect("mpirun is installed")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A small dataset in the format of MNIST: 8 x 8 images, in which one of three rows is bright.
fn dataset() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    for (part, count) in [("train", 264u32), ("t10k", 60)] {
        let pixel = |k: u32, p: u32| match p / 8 == 2 * (k % 3) + 1 {
            true => 200 + (k * p % 50) as u8,
            false => ((k * 7 + p * 13) % 160) as u8,
        };
        let images = (0..count).flat_map(|k| (0..64).map(move |p| pixel(k, p)));
        let header = |sizes: &[u32]| {
            let kind = [0, 0, 8, sizes.len() as u8];
            let sizes = sizes.iter().flat_map(|n| n.to_be_bytes());
            kind.into_iter().chain(sizes).collect::<Vec<u8>>()
        };
        let write = |name: &str, header: Vec<u8>, bytes: Vec<u8>| {
            let path = directory.path().join(format!("{part}-{name}"));
            let mut file = fs::File::create(path).expect("a file");
            file.write_all(&[header, bytes].concat()).expect("written");
        };
        write(
            "images-idx3-ubyte",
            header(&[count, 8, 8]),
            images.collect(),
        );
        write(
            "labels-idx1-ubyte",
            header(&[count]),
            (0..count).map(|k| (k % 3) as u8).collect(),
        );
    }
    directory
}

/// The options of a training with dropout and a short last batch: of 242 images, 15 batches of 16 and one
/// of 2.
fn options<'a>(directory: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let own = [
        "--data",
        directory,
        "--hidden",
        "24",
        "--batch-size",
        "16",
        "--micro-batch",
        "4",
        "--dropout",
        "0.2",
        "--threads",
        "1",
        "--quiet",
    ];
    [&own, more].concat()
}

#[test]
fn any_number_of_processes_gives_the_same_bits() {
    let directory = dataset();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let train = |ranks: usize| {
        let weights = path(&format!("weights{ranks}"));
        let args = ["--epochs", "4", "--save", &weights];
        let out = output("mnist_mlp", ranks, &options(&path(""), &args));
        assert!(out.status.success(), "{ranks} ranks: {}", text(&out.stderr));
        // one rank prints
        assert_eq!(text(&out.stdout).matches("test accuracy").count(), 1);
        (fs::read(&weights).expect("weights"), text(&out.stdout))
    };
    let expected = train(1);
    // without mpirun, it is a program like any other
    let out = Command::new(program("mnist_mlp"))
        .args(options(
            &path(""),
            &["--epochs", "4", "--save", &path("alone")],
        ))
        .output()
        .expect("the example was built");
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert!(fs::read(path("alone")).expect("weights") == expected.0);
    for ranks in [2, 3, 4] {
        assert!(train(ranks) == expected, "{ranks} ranks");
    }
}

#[test]
fn a_rank_that_cannot_begin_or_go_on_ends_the_job_and_is_named() {
    let directory = dataset();
    let path = directory.path().display().to_string();
    // with more ranks than parts, all of them know before the first step
    let out = output("mnist_mlp", 5, &options(&path, &[]));
    let expected = "error: 5 ranks, but a batch has 4 micro-batches: at most 4 ranks";
    assert!(
        !out.status.success() && text(&out.stderr).contains(expected),
        "{}",
        text(&out.stderr)
    );
    // what goes wrong on one rank alone, outside of a training and within it
    for (how, expected) in [
        ("before", "rank 1 of 2 failed: no data here"),
        (
            "within",
            "rank 1 failed: the callback Fails panicked: step 3",
        ),
        (
            "settings",
            "rank 1 differs from rank 0: another seed: 1 there, 0 on rank 0",
        ),
        ("panic", "rank 1 of 2 failed: it ended without `Mpi::end`"),
        ("exit", "rank 1"),
    ] {
        let begin = Instant::now();
        let out = output("failing_rank", 2, &[how]);
        assert!(
            !out.status.success() && text(&out.stderr).contains(expected),
            "{how}: {}",
            text(&out.stderr)
        );
        assert!(
            begin.elapsed() < Duration::from_secs(20),
            "{how}: {:?}",
            begin.elapsed()
        );
    }
}

/// The process of a rank of a job.
fn process_of(job: &Child, rank: usize) -> Option<u32> {
    let variable = format!("OMPI_COMM_WORLD_RANK={rank}");
    let is_it = |pid: &u32| {
        let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let status = text(&read("status"));
        let is_child = status
            .lines()
            .any(|l| l.split_whitespace().eq(["PPid:", &job.id().to_string()]));
        is_child
            && read("environ")
                .split(|b| *b == 0)
                .any(|v| v == variable.as_bytes())
    };
    let processes = fs::read_dir("/proc").expect("Linux").flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.into_iter().find(is_it)
}

/// Waits for a job; none if it takes longer.
fn wait(job: &mut Child, limit: Duration) -> Option<Duration> {
    let begin = Instant::now();
    while begin.elapsed() < limit {
        if job.try_wait().expect("a child").is_some() {
            return Some(begin.elapsed());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

/// The kills of a training, with 2 and with 4 ranks in turn.
const KILLS: usize = 20;

#[test]
fn a_killed_rank_ends_the_job_and_the_training_goes_on_with_another_number() {
    let directory = dataset();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (data, state, weights) = (path(""), path("state"), path("weights"));
    let reference = path("reference");
    let epochs = ["--epochs", "400"];
    let args = options(&data, &epochs);
    let uninterrupted = output(
        "mnist_mlp",
        1,
        &[&args[..], &["--save", &reference]].concat(),
    );
    assert!(
        uninterrupted.status.success(),
        "{}",
        text(&uninterrupted.stderr)
    );
    let expected = fs::read(&reference).expect("weights");
    let args = [&args[..], &["--checkpoint", &state, "--save", &weights]].concat();
    let (mut kills, mut slowest, mut finished) = (0, Duration::ZERO, 0);
    while kills < KILLS || finished == 0 {
        let ranks = if kills % 2 == 0 { 2 } else { 4 };
        let before = fs::metadata(&state).and_then(|m| m.modified()).ok();
        let mut job = job("mnist_mlp", ranks, &args)
            .spawn()
            .expect("mpirun is installed");
        // it trains when it has saved a checkpoint
        let saves = |job: &mut Child| {
            let saved = fs::metadata(&state).and_then(|m| m.modified()).ok();
            saved != before || job.try_wait().expect("a child").is_some()
        };
        while !saves(&mut job) {
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::sleep(Duration::from_millis(7 * kills as u64 % 50));
        let rank = (kills / 2 + 1) % ranks;
        let victim = if kills < KILLS {
            process_of(&job, rank)
        } else {
            None
        };
        if let Some(pid) = victim {
            let killed = Command::new("kill").args(["-9", &pid.to_string()]).status();
            assert!(killed.expect("kill").success());
        }
        let took = wait(
            &mut job,
            Duration::from_secs(if victim.is_some() { 10 } else { 300 }),
        );
        let took = took.unwrap_or_else(|| {
            let _ = job.kill();
            panic!("rank {rank} of {ranks} is dead, and the job goes on")
        });
        let out = job.wait_with_output().expect("a job");
        if out.status.success() {
            assert!(
                fs::read(&weights).expect("weights") == expected,
                "after {kills} kills"
            );
            finished += 1;
            fs::remove_file(&state).expect("the state of a finished training");
            continue;
        }
        let message = text(&out.stderr);
        assert!(
            message.contains(&format!("process rank {rank} ")),
            "rank {rank} of {ranks}: {message}"
        );
        (kills, slowest) = (kills + 1, slowest.max(took));
    }
    println!("{kills} kills, at most {slowest:?} until the job had ended");
    assert!(slowest < Duration::from_secs(10));
}
