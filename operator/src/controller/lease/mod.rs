//! Leader election: of all replicas, only the holder of a `coordination.k8s.io` Lease writes.
//!
//! The rules, after the design of linkerd's kubert:
//!
//! - Every write of the Lease carries the resourceVersion that was read, so of two processes that
//!   claim it one fails.
//! - Clocks of different machines are never compared. A process that waits for the Lease to expire
//!   measures, on its own clock, for how long it has seen no renewal. The holder counts from the
//!   moment at which it *sent* the renewal, so it stops first.
//! - The holder checks [`LeaseValidity::is_current_for`] before each write, and again when the
//!   bytes leave (see [`crate::controller::fence`]); a process that was paused finds it lapsed.
//! - A process that takes over an expired Lease writes only after the old holder's requests must
//!   have ended: lease duration plus request time-out after the last renewal that was seen.
//! - A process that ends vacates the Lease, so that the next leader need not wait.

mod validity;

use std::time::{Duration, Instant};

use daylight_base::duration;
use daylight_cluster::repetition::Repetition;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use crate::clock;
pub use validity::LeaseValidity;
use validity::Sent;

/// Settings of leader election.
#[derive(Clone, Debug)]
pub struct LeaseConfig {
    pub namespace: String,
    pub name: String,
    /// This process's name in the Lease; no two processes may share one.
    pub identity: String,
    /// Time for which a renewal holds: a whole number of seconds, at least one.
    pub duration: Duration,
    /// Interval of the holder's renewals.
    pub renew_every: Duration,
    /// Interval at which other processes read the Lease, and pause after a failed request.
    pub retry_every: Duration,
    /// The longest time that any request of the holder may take.
    pub request_timeout: Duration,
}

/// A [`LeaseConfig`] that cannot work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseConfigError {
    /// Renewals cannot be in time.
    #[error(
        "lease duration {} must be longer than renewal interval {} plus two request time-outs of \
         {}: raise --lease-duration or lower the others",
        duration::format(*duration),
        duration::format(*renew_every),
        duration::format(*request_timeout)
    )]
    Margin { duration: Duration, renew_every: Duration, request_timeout: Duration },
    /// The Lease object counts in whole seconds.
    #[error(
        "lease duration {} must be a whole number of seconds, at least one: correct --lease-duration",
        duration::format(*.0)
    )]
    Seconds(Duration),
}

impl LeaseConfig {
    /// Checks that a renewal which fails once can still be repeated in time.
    pub fn check(&self) -> Result<(), LeaseConfigError> {
        if self.duration.as_secs() == 0 || self.duration.subsec_nanos() != 0 {
            return Err(LeaseConfigError::Seconds(self.duration));
        }
        if self.renew_every + 2 * self.request_timeout >= self.duration {
            return Err(LeaseConfigError::Margin {
                duration: self.duration,
                renew_every: self.renew_every,
                request_timeout: self.request_timeout,
            });
        }
        Ok(())
    }
}

/// A period of leadership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenure {
    /// Changes of the Lease's holder up to the tenure's begin; distinguishes tenures.
    pub transitions: i32,
    /// Time from which on this process may write.
    pub writes_from: Instant,
}

/// State of the requests when leadership is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vacate {
    /// No request is under way: the next holder may write at once.
    Settled,
    /// Requests are under way: the next holder waits for them to end.
    Unsettled,
}

/// The other tasks' side of the elector.
#[derive(Debug)]
pub struct Leadership {
    /// The current tenure, if this process leads.
    pub tenure: watch::Receiver<Option<Tenure>>,
    /// Makes the elector give up leadership and end.
    pub vacate: mpsc::Sender<Vacate>,
    /// Must be checked before each write.
    pub validity: LeaseValidity,
}

/// Returns a [`Leadership`] and the future that decides it, which ends once it has vacated the
/// Lease.
pub fn elect(client: Client, config: LeaseConfig) -> (Leadership, impl Future<Output = ()>) {
    let (tenure_to, tenure) = watch::channel(None);
    let (vacate, vacate_from) = mpsc::channel(1);
    let validity = LeaseValidity::default();
    let elector = Elector {
        leases: Api::namespaced(client, &config.namespace),
        config,
        validity: validity.clone(),
        tenure: tenure_to,
        seen: None,
        failures: Repetition::default(),
    };
    let leadership = Leadership { tenure, vacate, validity };
    (leadership, elector.run(vacate_from))
}

/// The Lease as last read, and the time since when it has not changed.
#[derive(Clone, Debug)]
struct ObservedLease {
    lease: Lease,
    since: Instant,
}

impl ObservedLease {
    fn spec(&self) -> Option<&LeaseSpec> {
        self.lease.spec.as_ref()
    }

    fn holder(&self) -> Option<&str> {
        self.spec()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
    }

    fn duration(&self, default: Duration) -> Duration {
        self.spec()
            .and_then(|spec| u64::try_from(spec.lease_duration_seconds?).ok())
            .map_or(default, Duration::from_secs)
    }
}

struct Elector {
    leases: Api<Lease>,
    config: LeaseConfig,
    validity: LeaseValidity,
    tenure: watch::Sender<Option<Tenure>>,
    seen: Option<ObservedLease>,
    /// The failure in the log, and `true` if the process led then.
    failures: Repetition<(bool, String)>,
}

/// A request for the Lease that failed.
#[derive(Debug, thiserror::Error)]
enum ClaimError {
    #[error("the API server did not answer within the request time-out")]
    Timeout,
    #[error("another process wrote the Lease first")]
    Conflict,
    #[error("{0}")]
    Api(kube::Error),
}

impl From<kube::Error> for ClaimError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.code == 409 => Self::Conflict,
            other => Self::Api(other),
        }
    }
}

impl Elector {
    async fn run(mut self, mut vacate: mpsc::Receiver<Vacate>) {
        let how = loop {
            // A renewal under way is dropped. If the API server carries it out all the same, vacating
            // meets a conflict and reads again.
            let pause = tokio::select! {
                biased;
                how = vacate.recv() => break how,
                pause = self.step() => pause,
            };
            tokio::select! {
                biased;
                how = vacate.recv() => break how,
                () = sleep(pause) => {}
            }
        };
        self.vacate(how.unwrap_or(Vacate::Unsettled)).await;
    }

    /// Renews or claims the Lease, and returns the pause until the next step.
    async fn step(&mut self) -> Duration {
        let led = self.tenure.borrow().is_some();
        let result = if led { self.renew().await } else { self.claim().await };
        // A renewal that failed does not end the tenure: the one before it may still hold. Before
        // the first write the lease is not valid yet, which is no loss of it.
        if led && !self.validity.is_current_for(Duration::ZERO) && !self.waits_for_first_write() {
            self.lose();
        }
        match result {
            Ok(pause) => {
                if self.failures.is_over() {
                    tracing::info!(lease = %self.config.name, "The Lease can be read and written again.");
                }
                pause
            }
            Err(ClaimError::Conflict) => {
                // Read again at once; the write that won may even have been our own.
                self.seen = None;
                if led { Duration::ZERO } else { self.config.retry_every }
            }
            Err(error) => {
                if self.failures.is_news(&(led, error.to_string()), Instant::now()) {
                    tracing::warn!(
                        lease = %self.config.name, namespace = %self.config.namespace, %error,
                        "Cannot {} the Lease; check that the namespace exists and that the service \
                         account may get, create and update leases in it.",
                        if led { "renew" } else { "claim" }
                    );
                }
                self.config.retry_every
            }
        }
    }

    /// In the first seconds of a tenure nothing may be written although the Lease is held.
    fn waits_for_first_write(&self) -> bool {
        self.tenure.borrow().is_some_and(|tenure| Instant::now() < tenure.writes_from)
    }

    fn lose(&mut self) {
        self.validity.lapse();
        if self.tenure.send_replace(None).is_some() {
            tracing::warn!(
                lease = %self.config.name,
                "Lost the Lease; this replica writes nothing until it leads again."
            );
        }
    }

    async fn read(&mut self) -> Result<Option<ObservedLease>, ClaimError> {
        let read = timeout(self.config.request_timeout, self.leases.get_opt(&self.config.name));
        let Some(lease) = read.await.map_err(|_| ClaimError::Timeout)?? else {
            self.seen = None;
            return Ok(None);
        };
        // The same resourceVersion means that no process has renewed: the age continues to count.
        let since = match &self.seen {
            Some(seen)
                if seen.lease.metadata.resource_version == lease.metadata.resource_version =>
            {
                seen.since
            }
            _ => Instant::now(),
        };
        self.seen = Some(ObservedLease { lease, since });
        Ok(self.seen.clone())
    }

    /// Takes the Lease if it is free or has expired.
    async fn claim(&mut self) -> Result<Duration, ClaimError> {
        let Some(seen) = self.read().await? else {
            return self.take(None, Instant::now(), 0).await;
        };
        let transitions = seen.spec().and_then(|spec| spec.lease_transitions).unwrap_or(0);
        let next = transitions.saturating_add(1);
        match seen.holder() {
            None => self.take(Some(seen.lease), Instant::now(), next).await,
            // Ours, from before it lapsed: no other process has written since.
            Some(holder) if holder == self.config.identity => {
                self.take(Some(seen.lease), Instant::now(), next).await
            }
            Some(holder) => {
                let expires = seen.since + seen.duration(self.config.duration);
                let left = expires.saturating_duration_since(Instant::now());
                if !left.is_zero() {
                    return Ok(left.min(self.config.retry_every));
                }
                tracing::info!(holder, "The leader has not renewed its Lease; taking it over.");
                // The old holder may have sent a write just before its lease ended.
                let from = expires + self.config.request_timeout;
                self.take(Some(seen.lease), from, next).await
            }
        }
    }

    async fn take(
        &mut self,
        found: Option<Lease>,
        writes_from: Instant,
        transitions: i32,
    ) -> Result<Duration, ClaimError> {
        let now = MicroTime(clock::now());
        let mut lease = found.unwrap_or_else(|| Lease {
            metadata: ObjectMeta { name: Some(self.config.name.clone()), ..ObjectMeta::default() },
            spec: None,
        });
        let spec = lease.spec.get_or_insert_default();
        spec.acquire_time = Some(now);
        spec.lease_transitions = Some(transitions);
        self.write(lease, writes_from).await?;
        let tenure = Tenure { transitions, writes_from };
        self.tenure.send_replace(Some(tenure));
        let (lease, identity) = (&self.config.name, &self.config.identity);
        tracing::info!(lease, identity, "Acquired the Lease; this replica leads.");
        Ok(self.config.renew_every)
    }

    async fn renew(&mut self) -> Result<Duration, ClaimError> {
        let seen = match &self.seen {
            Some(seen) => Some(seen.clone()),
            None => self.read().await?,
        };
        let Some(seen) = seen else {
            // Deleted by another client: the first process to create it again leads.
            self.lose();
            return Ok(Duration::ZERO);
        };
        if seen.holder() != Some(self.config.identity.as_str()) {
            self.lose();
            return Ok(self.config.retry_every);
        }
        let from = self.tenure.borrow().map_or_else(Instant::now, |tenure| tenure.writes_from);
        self.write(seen.lease, from).await?;
        Ok(self.config.renew_every)
    }

    /// Writes the Lease as ours, valid from the moment of sending.
    async fn write(&mut self, mut lease: Lease, writes_from: Instant) -> Result<(), ClaimError> {
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = Some(self.config.identity.clone());
        spec.lease_duration_seconds = i32::try_from(self.config.duration.as_secs()).ok();
        spec.renew_time = Some(MicroTime(clock::now()));
        // Taken before the request leaves: the holder's count must begin before an observer's can.
        let sent = Sent::now();
        let lease = self.put(&lease).await?;
        self.validity.extend(sent, self.config.duration, writes_from);
        self.seen = Some(ObservedLease { lease, since: sent.instant });
        Ok(())
    }

    async fn put(&self, lease: &Lease) -> Result<Lease, ClaimError> {
        let params =
            PostParams { field_manager: Some("daylight/lease".into()), ..PostParams::default() };
        let request = async {
            if lease.metadata.resource_version.is_none() {
                self.leases.create(&params, lease).await
            } else {
                self.leases.replace(&self.config.name, &params, lease).await
            }
        };
        timeout(self.config.request_timeout, request)
            .await
            .map_err(|_| ClaimError::Timeout)?
            .map_err(ClaimError::from)
    }

    /// Gives the Lease up, if it is ours.
    async fn vacate(&mut self, how: Vacate) {
        // Closed first: nothing may be written once another process can take the Lease.
        self.validity.close();
        if self.tenure.send_replace(None).is_none() {
            return;
        }
        let mut result = Ok(());
        // A renewal that was under way may have changed the resourceVersion. Three attempts bound
        // the time that this takes.
        for _ in 0..3 {
            result = self.vacate_once(how).await;
            if !matches!(result, Err(ClaimError::Conflict)) {
                break;
            }
            self.seen = None;
        }
        match result {
            Ok(()) => tracing::info!(lease = %self.config.name, "Vacated the Lease."),
            Err(error) => tracing::warn!(
                lease = %self.config.name, %error,
                "Cannot vacate the Lease; the next leader waits until it expires."
            ),
        }
    }

    async fn vacate_once(&mut self, how: Vacate) -> Result<(), ClaimError> {
        let seen = match self.seen.take() {
            Some(seen) => Some(seen),
            None => self.read().await?,
        };
        let ours = Some(self.config.identity.as_str());
        let Some(mut seen) = seen.filter(|seen| seen.holder() == ours) else {
            return Ok(());
        };
        let spec = seen.lease.spec.get_or_insert_default();
        spec.renew_time = Some(MicroTime(clock::now()));
        match how {
            Vacate::Settled => {
                spec.holder_identity = None;
                // The API server accepts no lease of 0 seconds.
                spec.lease_duration_seconds = Some(1);
            }
            // The next one waits as it would after a crash, but no longer than needed.
            Vacate::Unsettled => {
                let seconds = self.config.request_timeout.as_secs().max(1);
                spec.lease_duration_seconds = i32::try_from(seconds).ok();
            }
        }
        self.put(&seen.lease).await.map(drop)
    }
}

#[cfg(test)]
mod tests;
