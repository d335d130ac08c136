//! Leader election: of all replicas, only the holder of a `coordination.k8s.io` Lease writes.
//!
//! The rules, after the design of linkerd's kubert:
//!
//! - Every write of the Lease carries the resourceVersion that was read, so that of two who
//!   claim it one fails.
//! - Clocks of different machines are never compared. Whoever waits for the Lease to expire
//!   measures, on its own clock, how long it has seen no renewal. The holder counts from the
//!   moment at which it *sent* the renewal, so it stops first.
//! - The holder asks [`LeaseValidity::is_current_for`] before each write, and again when the bytes
//!   go out (see [`crate::controller::fence`]); a process that was paused finds it lapsed.
//! - Who takes an expired Lease writes only after the old holder's requests must have ended:
//!   lease duration plus request time-out after the last renewal that was seen.
//! - Who ends vacates the Lease, so that the next one need not wait.

mod validity;

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

pub use validity::LeaseValidity;
use validity::Sent;

/// How leadership is claimed.
#[derive(Clone, Debug)]
pub struct LeaseConfig {
    /// The namespace of the Lease.
    pub namespace: String,
    pub name: String,
    /// Who claims it; no two processes may share an identity.
    pub identity: String,
    /// How long a renewal holds. At least one second; whole seconds are written.
    pub duration: Duration,
    /// How often the holder renews.
    pub renew_every: Duration,
    /// How often others look, and how soon a failed request is tried again.
    pub retry_every: Duration,
    /// The longest that any request of the holder may take.
    pub request_timeout: Duration,
}

/// A [`LeaseConfig`] that cannot work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseConfigError {
    /// Renewals cannot be in time.
    #[error(
        "lease duration {duration:?} must be longer than renewal interval {renew_every:?} plus \
         two request time-outs of {request_timeout:?}: raise --lease-duration or lower the others"
    )]
    Margin {
        /// [`LeaseConfig::duration`].
        duration: Duration,
        /// [`LeaseConfig::renew_every`].
        renew_every: Duration,
        /// [`LeaseConfig::request_timeout`].
        request_timeout: Duration,
    },
    /// The Lease object counts in whole seconds.
    #[error("lease duration {0:?} must be a whole number of seconds, at least one")]
    Seconds(Duration),
}

impl LeaseConfig {
    /// Whether a renewal that fails once can still be in time.
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

/// A time of leadership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenure {
    /// How often the Lease had changed hands when it began; tells tenures apart.
    pub transitions: i32,
    /// When the first write may be made.
    pub writes_from: Instant,
}

/// How leadership is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vacate {
    /// No request is under way: the next holder may write at once.
    Settled,
    /// Requests are under way: the next holder waits for them to end.
    Unsettled,
}

/// What an elector needs to be told, and tells.
#[derive(Debug)]
pub struct Leadership {
    /// The current tenure, if this process leads.
    pub tenure: watch::Receiver<Option<Tenure>>,
    /// Asks the elector to give up leadership and end.
    pub vacate: mpsc::Sender<Vacate>,
    /// Asked before each write.
    pub validity: LeaseValidity,
}

/// A [`Leadership`] that is decided by the future beside it, which ends once it has vacated.
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
    };
    let leadership = Leadership { tenure, vacate, validity };
    (leadership, elector.run(vacate_from))
}

/// The Lease as last read, and since when it has looked so.
#[derive(Clone, Debug)]
struct Seen {
    lease: Lease,
    since: Instant,
}

impl Seen {
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
    seen: Option<Seen>,
}

/// A request for the Lease that came to nothing.
#[derive(Debug, thiserror::Error)]
enum ClaimError {
    #[error("the API server did not answer in time")]
    Timeout,
    #[error("somebody else wrote it first")]
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
            // A renewal that is under way is not waited for: if it comes through all the same,
            // vacating sees the conflict and reads again.
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

    /// Does what the moment asks for, and says when to look again.
    async fn step(&mut self) -> Duration {
        let led = self.tenure.borrow().is_some();
        let result = if led { self.renew().await } else { self.claim().await };
        if led && !self.validity.is_current_for(Duration::ZERO) && !self.waits_for_first_write() {
            self.lose();
        }
        match result {
            Ok(pause) => pause,
            Err(ClaimError::Conflict) => {
                // Read again at once; the write that won may even have been our own.
                self.seen = None;
                if led { Duration::ZERO } else { self.config.retry_every }
            }
            Err(error) => {
                tracing::warn!(
                    lease = %self.config.name, namespace = %self.config.namespace, %error,
                    "Cannot {} the Lease; check that the namespace exists and that the service \
                     account may get, create and update leases in it.",
                    if led { "renew" } else { "claim" }
                );
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
            tracing::warn!(lease = %self.config.name, "Leadership is lost; nothing is written.");
        }
    }

    async fn read(&mut self) -> Result<Option<Seen>, ClaimError> {
        let read = timeout(self.config.request_timeout, self.leases.get_opt(&self.config.name));
        let Some(lease) = read.await.map_err(|_| ClaimError::Timeout)?? else {
            self.seen = None;
            return Ok(None);
        };
        let since = match &self.seen {
            Some(seen)
                if seen.lease.metadata.resource_version == lease.metadata.resource_version =>
            {
                seen.since
            }
            _ => Instant::now(),
        };
        self.seen = Some(Seen { lease, since });
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
            // Our own, from before it lapsed: nobody else has written since.
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
        let now = MicroTime(jiff::Timestamp::now());
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
        tracing::info!(lease = %self.config.name, identity = %self.config.identity, "Leading.");
        Ok(self.config.renew_every)
    }

    async fn renew(&mut self) -> Result<Duration, ClaimError> {
        let seen = match &self.seen {
            Some(seen) => Some(seen.clone()),
            None => self.read().await?,
        };
        let Some(seen) = seen else {
            // Deleted under us: whoever creates it first leads.
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
        spec.renew_time = Some(MicroTime(jiff::Timestamp::now()));
        let sent = Sent::now();
        let lease = self.put(&lease).await?;
        self.validity.extend(sent, self.config.duration, writes_from);
        self.seen = Some(Seen { lease, since: sent.instant });
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
        self.validity.close();
        if self.tenure.send_replace(None).is_none() {
            return;
        }
        let mut result = Ok(());
        for _ in 0..3 {
            result = self.vacate_once(how).await;
            if !matches!(result, Err(ClaimError::Conflict)) {
                break;
            }
            self.seen = None;
        }
        match result {
            Ok(()) => tracing::info!(lease = %self.config.name, "The Lease is vacated."),
            Err(error) => tracing::warn!(
                lease = %self.config.name, %error,
                "The Lease could not be vacated; the next leader waits until it expires."
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
        spec.renew_time = Some(MicroTime(jiff::Timestamp::now()));
        match how {
            Vacate::Settled => {
                spec.holder_identity = None;
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
