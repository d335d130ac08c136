//! Hashing on this machine's devices, and for a pool. Without a device the tests are ignored; lavapipe
//! (in Debian mesa-vulkan-drivers) makes the CPU one.

mod hashing;
mod mining;

use std::error::Error;
use std::process::ExitCode;

use daylight_gpu::{Choice, ChoiceError, Device, DeviceKind, choose, devices};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

pub(crate) type Outcome = Result<(), Box<dyn Error>>;

type Test = fn(&Device) -> Outcome;

const TESTS: [(&str, Test); 10] = [
    ("the_nonces_of_published_blocks_are_found", hashing::published_blocks),
    ("a_device_finds_what_the_cpu_finds", hashing::same_as_the_cpu),
    ("the_whole_target_counts", hashing::whole_target),
    ("nothing_is_lost_if_much_is_found", hashing::much_is_found),
    ("an_engine_follows_a_pool_to_the_last_share", mining::follows_a_pool),
    ("two_threads_do_nothing_twice", mining::two_threads),
    ("a_stop_takes_no_longer_than_two_batches", mining::stops),
    ("an_engine_without_work_stops_at_once", mining::stops_idle),
    ("a_lost_device_ends_the_engine", mining::loses_a_device),
    ("devices_are_chosen_by_kind_and_index", chooses),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // On the CPU, tests at the same time would slow each other down.
    arguments.test_threads = Some(1);
    // The first GPU; lavapipe where there is none.
    let listed = if arguments.list { vec![] } else { devices() };
    let device = listed.iter().find(|device| device.kind() != DeviceKind::Cpu).or(listed.first());
    let trials = TESTS.map(|(name, test)| {
        let device = device.cloned();
        Trial::ignorable_test(name, move || match device {
            None => Ok(Completion::ignored_with(ChoiceError::NoDevice)),
            Some(device) => match test(&device) {
                Ok(()) => Ok(Completion::Completed),
                Err(error) => Err(Failed::from(error.to_string())),
            },
        })
    });
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}

fn chooses(_: &Device) -> Outcome {
    let listed = devices();
    let indices = |choice| {
        let chosen = choose(&listed, &choice)?;
        Ok(chosen.iter().map(Device::index).collect::<Vec<_>>())
    };
    let last = listed.len().checked_sub(1).ok_or("the devices are gone")?;
    let is_gpu = |index: &usize| listed[*index].kind() != DeviceKind::Cpu;
    let gpus: Vec<_> = (0..=last).filter(is_gpu).collect();
    let no_gpu = ChoiceError::NoGpu(listed[last].to_string());

    assert_eq!(indices(Choice::All), Ok((0..=last).collect()));
    assert_eq!(indices(Choice::Gpus), if gpus.is_empty() { Err(no_gpu) } else { Ok(gpus) });
    assert_eq!(indices(Choice::Indices(vec![last, 0, last])), {
        let mut both = vec![0, last];
        both.dedup();
        Ok(both)
    });
    let beyond = ChoiceError::NoSuchIndex { index: last + 1, last };
    assert_eq!(indices(Choice::Indices(vec![0, last + 1])), Err(beyond));
    assert_eq!(choose(&[], &Choice::All).map(|_| ()), Err(ChoiceError::NoDevice));
    for device in &listed {
        assert!(!device.name().is_empty() && !device.driver().is_empty(), "{device:?}");
        assert_eq!(device.to_string(), format!("device {} ({})", device.index(), device.name()));
    }
    Ok(())
}
