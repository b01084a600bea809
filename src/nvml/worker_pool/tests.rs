use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use super::*;

/// Far longer than a call that returns at once takes, on a busy machine too.
const DEADLINE: Duration = Duration::from_millis(500);

fn gpu(n: u32) -> Subject {
    Subject::Gpu(format!("GPU-{n}").parse().unwrap())
}

#[tokio::test]
async fn a_call_that_does_not_return_is_left_to_its_thread_and_another_thread_does_the_rest() {
    let mut worker_pool = WorkerPool::new(DEADLINE, NvmlTelemetry::default()).unwrap();
    let (release, hang) = channel::<()>();
    let hang = Arc::new(Mutex::new(hang));
    let stuck = move |n| {
        mark_call("nvmlHangs");
        if n == 1 {
            let _ = hang.lock().unwrap().recv();
        }
        n
    };
    let items = (0..4).map(|n| (gpu(n), n)).collect();
    let answers: Vec<_> = worker_pool
        .run_each(items, stuck)
        .await
        .unwrap()
        .into_iter()
        .map(|(_, answer)| answer)
        .collect();
    assert_eq!(answers, [Some(0), None, Some(2), Some(3)]);
    assert!(worker_pool.stuck_call(&gpu(1)).is_some() && worker_pool.stuck_call(&gpu(2)).is_none());
    tokio::time::sleep_until(worker_pool.next_deadline().unwrap().into()).await;
    assert_eq!(worker_pool.missed_deadlines()[0].call, "nvmlHangs");
    drop(release);
    assert_eq!(worker_pool.returned().await.unwrap().subject, gpu(1));
    assert!(worker_pool.stuck_calls().is_empty());
}

#[tokio::test]
async fn each_call_of_a_job_has_a_deadline_of_its_own() {
    let mut worker_pool = WorkerPool::new(DEADLINE, NvmlTelemetry::default()).unwrap();
    // Longer than one deadline together.
    let slow = |()| {
        for _ in 0..6 {
            mark_call("nvmlSlow");
            std::thread::sleep(DEADLINE / 5);
        }
    };
    assert_eq!(worker_pool.run_each(vec![(gpu(0), ())], slow).await.unwrap(), [(gpu(0), Some(()))]);
}

#[tokio::test]
async fn a_call_about_the_node_is_waited_for_and_each_missed_deadline_is_reported() {
    let mut worker_pool =
        WorkerPool::new(Duration::from_millis(20), NvmlTelemetry::default()).unwrap();
    let (release, hang) = channel::<()>();
    let mut release = Some(release);
    let mut missed = 0;
    let answer = worker_pool.run(
        move || {
            mark_call("nvmlInit_v2");
            let _ = hang.recv();
            3
        },
        async |call| {
            // The thread may not have begun when the first deadline passes.
            assert!(["nvml", "nvmlInit_v2"].contains(&call), "{call}");
            missed += 1;
            if missed == 3 {
                release = None;
            }
        },
    );
    assert_eq!(answer.await.unwrap(), 3);
    assert!(missed >= 3, "{missed}");
}

#[tokio::test]
async fn a_panic_in_a_job_is_an_error_with_its_text() {
    let mut worker_pool =
        WorkerPool::new(Duration::from_secs(30), NvmlTelemetry::default()).unwrap();
    let unlucky = |()| -> u32 { panic!("out of luck") };
    let error = worker_pool.run_each(vec![(gpu(0), ())], unlucky).await.unwrap_err();
    assert!(error.to_string().contains("out of luck"), "{error}");
}
