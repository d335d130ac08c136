//! The arguments and files of the components.

use std::ffi::{OsStr, OsString};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use crate::certificates::{Authority, Identity};
use crate::error::{Error, Result};
use crate::isolation::ADDRESS;
use crate::options::{ClientRate, Options};
use crate::real_node::{PODS, SERVICES};
use crate::scratch::{self, Scratch};
use crate::{Component, kubeconfig, kueue};

/// Returns the arguments of a component.
pub(crate) fn arguments(
    component: Component,
    options: &Options,
    files: &Files,
    ports: &Ports,
    directory: &Path,
) -> Result<Vec<OsString>> {
    let flag = |name: &str, value: &dyn AsRef<OsStr>| {
        let mut flag = OsString::from(format!("--{name}="));
        flag.push(value.as_ref());
        flag
    };
    // The common flags of the two clients that are also servers.
    let serving = |kubeconfig: &PathBuf, port: u16, rate: ClientRate| {
        vec![
            flag("kubeconfig", kubeconfig),
            flag("authentication-kubeconfig", kubeconfig),
            flag("authorization-kubeconfig", kubeconfig),
            flag("tls-cert-file", &files.server.certificate),
            flag("tls-private-key-file", &files.server.key),
            flag("bind-address", &"127.0.0.1"),
            flag("secure-port", &port.to_string()),
            flag("kube-api-qps", &rate.qps.to_string()),
            flag("kube-api-burst", &rate.burst.to_string()),
            flag("leader-elect", &"false"),
        ]
    };
    let loopback = |port: u16| format!("http://127.0.0.1:{port}");
    let mut arguments = match component {
        Component::Etcd => {
            let (clients, peers) = (loopback(ports.etcd), loopback(ports.etcd_peer));
            let mut arguments = vec![
                flag("data-dir", &directory.join("etcd")),
                flag("listen-client-urls", &clients),
                flag("advertise-client-urls", &clients),
                flag("listen-peer-urls", &peers),
                flag("initial-advertise-peer-urls", &peers),
                flag("initial-cluster", &format!("default={peers}")),
                flag("quota-backend-bytes", &"8589934592"),
                flag("log-level", &"warn"),
            ];
            if !options.fsync {
                arguments.push("--unsafe-no-fsync".into());
            }
            arguments
        }
        Component::ApiServer => {
            // A loopback address cannot be an endpoint of the service `kubernetes`.
            let (bind, advertise, endpoints) = if options.services {
                ("0.0.0.0", ADDRESS, "lease")
            } else {
                ("127.0.0.1", "127.0.0.1", "none")
            };
            let mut arguments = vec![
                flag("etcd-servers", &loopback(ports.etcd)),
                flag("bind-address", &bind),
                flag("advertise-address", &advertise),
                flag("endpoint-reconciler-type", &endpoints),
                flag("secure-port", &ports.api_server.to_string()),
                flag("tls-cert-file", &files.server.certificate),
                flag("tls-private-key-file", &files.server.key),
                flag("client-ca-file", &files.authority),
                flag("authorization-mode", &"RBAC"),
                flag("service-account-issuer", &"https://kubernetes.default.svc"),
                flag("service-account-key-file", &files.service_account_public_key),
                flag("service-account-signing-key-file", &files.service_account_key),
                flag("service-cluster-ip-range", &SERVICES),
                flag("allow-privileged", &"true"),
                // A real node's name is not resolved.
                flag("kubelet-preferred-address-types", &"InternalIP"),
                flag("max-requests-inflight", &"2000"),
                flag("max-mutating-requests-inflight", &"1000"),
            ];
            if !options.components.contains(&Component::ControllerManager) {
                arguments.push(flag("disable-admission-plugins", &"TaintNodesByCondition"));
            }
            arguments
        }
        Component::ControllerManager => {
            let mut arguments = serving(
                &files.controller_manager,
                ports.controller_manager,
                options.controller_manager_rate,
            );
            arguments.extend([
                flag("use-service-account-credentials", &"true"),
                flag("service-account-private-key-file", &files.service_account_key),
                flag("root-ca-file", &files.authority),
            ]);
            arguments
        }
        Component::Scheduler => serving(&files.scheduler, ports.scheduler, options.scheduler_rate),
        Component::Kwok => {
            let config = directory.join("kwok.yaml");
            scratch::write(&config, include_str!("kwok.yaml"))?;
            vec![
                flag("kubeconfig", &files.kwok),
                flag("config", &config),
                flag("server-address", &format!("127.0.0.1:{}", ports.kwok)),
                flag("node-lease-duration-seconds", &options.node_lease.as_secs().to_string()),
                flag("v", &"WARN"),
            ]
        }
        Component::Kubelet => {
            vec![flag("kubeconfig", &files.kubelet), flag("port", &ports.kubelet.to_string())]
        }
        Component::KubeProxy => vec![
            flag("kubeconfig", &files.kube_proxy),
            flag("hostname-override", &options.real_node.name()),
            flag("proxy-mode", &"iptables"),
            flag("cluster-cidr", &PODS),
            flag("healthz-bind-address", &format!("127.0.0.1:{}", ports.kube_proxy)),
            // Limits of the whole machine's kernel.
            flag("conntrack-max-per-core", &"0"),
            flag("conntrack-tcp-timeout-established", &"0"),
            flag("conntrack-tcp-timeout-close-wait", &"0"),
        ],
        Component::Kueue => kueue::arguments(directory, &files.admin),
    };
    if let Some(gates) = options.feature_gates.get(&component) {
        arguments.push(flag("feature-gates", &gates.join(",")));
    }
    arguments.extend(options.flags.get(&component).into_iter().flatten().map(OsString::from));
    Ok(arguments)
}

/// The files of the components and clients.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) authority: PathBuf,
    pub(crate) authority_der: Vec<u8>,
    pub(crate) server: Identity,
    pub(crate) service_account_key: PathBuf,
    pub(crate) service_account_public_key: PathBuf,
    pub(crate) admin: PathBuf,
    pub(crate) controller_manager: PathBuf,
    pub(crate) scheduler: PathBuf,
    pub(crate) kwok: PathBuf,
    pub(crate) kubelet: PathBuf,
    pub(crate) kube_proxy: PathBuf,
    pub(crate) logs: PathBuf,
}

impl Files {
    pub(crate) fn new(scratch: &Scratch, ports: &Ports) -> Result<Self> {
        let directory = scratch.directory("pki")?;
        let authority = Authority::new(&directory)?;
        let url = ports.api_server_url();
        let client = |file: &str, user: &str, group: Option<&str>| {
            let identity = authority.client(file, user, group)?;
            let path = scratch.path().join(format!("{file}.kubeconfig"));
            kubeconfig::write(&path, &url, &authority, &identity)
        };
        let (service_account_key, service_account_public_key) = authority.service_account_key()?;
        Ok(Self {
            server: authority.server()?,
            service_account_key,
            service_account_public_key,
            admin: client("admin", "admin", Some("system:masters"))?,
            controller_manager: client(
                "controller-manager",
                "system:kube-controller-manager",
                None,
            )?,
            scheduler: client("scheduler", "system:kube-scheduler", None)?,
            kwok: client("kwok", "kwok", Some("system:masters"))?,
            kubelet: client("kubelet", "kubelet", Some("system:masters"))?,
            kube_proxy: client("kube-proxy", "system:kube-proxy", None)?,
            logs: scratch.directory("logs")?,
            authority_der: authority.der,
            authority: authority.certificate,
        })
    }
}

/// The components' ports, on the loopback address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) etcd: u16,
    pub(crate) etcd_peer: u16,
    pub(crate) api_server: u16,
    pub(crate) controller_manager: u16,
    pub(crate) scheduler: u16,
    pub(crate) kwok: u16,
    pub(crate) kubelet: u16,
    pub(crate) kube_proxy: u16,
    pub(crate) kueue: u16,
    pub(crate) kueue_health: u16,
}

impl Ports {
    /// Chooses free ports. Another program may take one before it is used; then the
    /// start is repeated.
    pub(crate) fn choose() -> Result<Self> {
        let failed = |error| Error::io("finding a free port", "127.0.0.1")(error);
        let listeners = (0..10)
            .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .collect::<std::io::Result<Vec<_>>>()
            .map_err(failed)?;
        let port = |index: usize| {
            listeners[index].local_addr().map(|address| address.port()).map_err(failed)
        };
        Ok(Self {
            etcd: port(0)?,
            etcd_peer: port(1)?,
            api_server: port(2)?,
            controller_manager: port(3)?,
            scheduler: port(4)?,
            kwok: port(5)?,
            kubelet: port(6)?,
            kube_proxy: port(7)?,
            kueue: port(8)?,
            kueue_health: port(9)?,
        })
    }

    pub(crate) fn api_server_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.api_server)
    }
}
