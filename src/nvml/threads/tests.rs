use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use device::names::Uuid;

use super::*;
use crate::nvml::current_call::mark_call;

/// Far longer than a call that returns at once takes, on a busy machine too.
const DEADLINE: Duration = Duration::from_millis(500);

fn gpu(n: u32) -> Uuid {
    format!("GPU-{n}").parse().unwrap()
}

fn read(n: u32) -> Job {
    let task = Task::Read { gpu: gpu(n), with_fabric: false, with_energy: false, poll: true };
    Job { session: 1, task }
}

/// Threads on which the jobs about these GPUs hang until the sender is dropped.
fn threads(hanging: &[u32]) -> (Threads, Sender<()>) {
    let (release, hang): (Sender<()>, Receiver<()>) = channel();
    let (hang, hanging) = (Mutex::new(hang), hanging.to_vec());
    let do_job = move |job: &Job, _: &dyn Fn(_)| {
        mark_call("nvmlHangs");
        if hanging.iter().any(|n| *job == read(*n)) {
            let _ = hang.lock().unwrap().recv();
        }
        Outcome::Closed
    };
    let clock = Clock::from(Instant::now());
    (Threads::new(clock, NvmlTelemetry::default(), do_job), release)
}

/// The jobs that are answered, once there are so many.
async fn answered(threads: &Threads, count: usize) -> Vec<Job> {
    let mut jobs = Vec::new();
    while jobs.len() < count {
        threads.tick();
        jobs.extend(threads.answers().into_iter().map(|answer| answer.job));
        let _ = tokio::time::timeout(SLOW / 4, threads.answered()).await;
    }
    jobs
}

/// The calls that miss a deadline, once there is one.
async fn overdue(threads: &Threads) -> Vec<Overdue> {
    loop {
        let overdue = threads.overdue(DEADLINE);
        if !overdue.is_empty() {
            return overdue;
        }
        tokio::time::sleep(DEADLINE / 20).await;
    }
}

#[tokio::test]
async fn a_call_that_does_not_return_keeps_its_thread_and_no_other_job() {
    let (threads, release) = threads(&[0, 2]);
    threads.submit((0..5).map(read));
    assert_eq!(answered(&threads, 3).await, [read(1), read(3), read(4)]);
    let missed = overdue(&threads).await;
    assert!(missed.iter().all(|overdue| overdue.call == "nvmlHangs"), "{missed:?}");
    drop(release);
    let returned: BTreeSet<_> =
        answered(&threads, 2).await.into_iter().map(|job| job.task.subject()).collect();
    assert_eq!(returned.len(), 2);
    assert_eq!(threads.unanswered(), 0, "the hang is over");
}

#[tokio::test]
async fn each_deadline_that_a_call_misses_is_told_once() {
    let (threads, _release) = threads(&[0]);
    threads.submit([read(0)]);
    for missed in 1..=3 {
        let expected = Overdue { job: read(0), call: "nvmlHangs", missed };
        assert_eq!(overdue(&threads).await, [expected]);
        assert_eq!(threads.unanswered(), 1);
    }
}

#[tokio::test]
async fn each_call_of_a_job_has_a_deadline_of_its_own() {
    let (done, slow) = channel();
    let do_job = move |_: &Job, _: &dyn Fn(_)| {
        // Longer than one deadline together.
        for _ in 0..6 {
            mark_call("nvmlSlow");
            std::thread::sleep(DEADLINE / 5);
        }
        done.send(()).unwrap();
        Outcome::Closed
    };
    let clock = Clock::from(Instant::now());
    let threads = Threads::new(clock, NvmlTelemetry::default(), do_job);
    threads.submit([read(0)]);
    while slow.try_recv().is_err() {
        assert_eq!(threads.overdue(DEADLINE), []);
        tokio::time::sleep(DEADLINE / 20).await;
    }
}

#[tokio::test]
async fn a_panic_in_a_job_is_an_answer_with_its_text() {
    let clock = Clock::from(Instant::now());
    let do_job = |_: &Job, _: &dyn Fn(_)| -> Outcome { panic!("out of luck") };
    let threads = Threads::new(clock, NvmlTelemetry::default(), do_job);
    threads.submit([read(0)]);
    threads.answered().await;
    let answers = threads.answers();
    let Outcome::Panicked(text) = &answers[0].outcome else { panic!("{answers:?}") };
    assert!(text.contains("out of luck"), "{text}");
}

#[tokio::test]
async fn no_more_threads_wait_for_work_than_one() {
    let (threads, release) = threads(&[0, 1, 2]);
    threads.submit((0..3).map(read));
    (0..3).for_each(|_| {
        std::thread::sleep(SLOW + SLOW / 4);
        threads.tick();
    });
    drop(release);
    answered(&threads, 3).await;
    let settled = || threads.0.lock().idle == 1 && Arc::strong_count(&threads.0) == 2;
    while !settled() {
        tokio::time::sleep(SLOW / 10).await;
    }
}

#[tokio::test]
async fn a_worker_does_not_end_for_one_that_cannot_be_started() {
    let (end_job, job_ends): (Sender<()>, Receiver<()>) = channel();
    let (job_ends, is_done) = (Mutex::new(job_ends), Arc::new(AtomicBool::new(false)));
    let do_job = {
        let is_done = is_done.clone();
        move |job: &Job, _: &dyn Fn(_)| {
            if *job == read(0) {
                let _ = job_ends.lock().unwrap().recv();
            } else {
                is_done.store(true, SeqCst);
            }
            Outcome::Closed
        }
    };
    // Only the first one starts. While the second one does not, the first does all its jobs.
    let started = AtomicBool::new(false);
    let spawn = move |_: &str, body: Box<dyn FnOnce() + Send>| {
        if !started.swap(true, SeqCst) {
            std::thread::spawn(body);
            return Ok(());
        }
        end_job.send(()).unwrap();
        let begun = Instant::now();
        while !is_done.swap(false, SeqCst) {
            assert!(begun.elapsed() < 40 * DEADLINE, "the worker has ended");
            std::thread::yield_now();
        }
        Err(std::io::Error::other("no thread"))
    };
    let clock = Clock::from(Instant::now());
    let threads = Threads::with_spawn(clock, NvmlTelemetry::default(), do_job, spawn);
    threads.submit([read(0), read(1)]);
    assert_eq!(answered(&threads, 2).await.len(), 2);
    threads.submit([read(2)]);
    assert_eq!(answered(&threads, 1).await, [read(2)]);
}

#[tokio::test]
async fn a_job_is_done_however_many_workers_have_none() {
    let (threads, release, late) = {
        let (release, hang): (Sender<()>, Receiver<()>) = channel();
        let hang = Mutex::new(hang);
        let do_job = move |job: &Job, _: &dyn Fn(_)| {
            if *job == read(0) {
                let _ = hang.lock().unwrap().recv();
            }
            Outcome::Closed
        };
        // The second one is started, and begins late.
        let (first, (begins, late)) = (AtomicBool::new(true), channel());
        let spawn = move |_: &str, body: Box<dyn FnOnce() + Send>| {
            match first.swap(false, SeqCst) {
                true => drop(std::thread::spawn(body)),
                false => begins.send(body).unwrap(),
            }
            Ok(())
        };
        let clock = Clock::from(Instant::now());
        (Threads::with_spawn(clock, NvmlTelemetry::default(), do_job, spawn), release, late)
    };
    threads.submit([read(0), read(1)]);
    let second = loop {
        threads.tick();
        match late.try_recv() {
            Ok(second) => break second,
            Err(_) => tokio::time::sleep(SLOW / 10).await,
        }
    };
    drop(release);
    assert_eq!(answered(&threads, 2).await, [read(0), read(1)]);
    // Both are without a job, for a moment at least.
    std::thread::spawn(second);
    while threads.0.lock().starting {
        tokio::time::sleep(SLOW / 100).await;
    }
    for n in 2..100 {
        threads.submit([read(n), read(n + 100)]);
        let both = tokio::time::timeout(40 * DEADLINE, answered(&threads, 2)).await;
        assert_eq!(both.expect("a job that waits is done"), [read(n), read(n + 100)]);
    }
}
