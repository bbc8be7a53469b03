//! A private certificate authority and what it signs.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use crate::account::Account;

/// A certificate that a server shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certificate {
    /// Made for `localhost` and valid: a client that trusts [`TestCa::ca_file`] accepts it under that name. It does
    /// not name `127.0.0.1`.
    Localhost,
    /// Made for `wrong.example`: the signature is good, the name is not.
    WrongHost,
    /// Made for `localhost`, and expired years ago.
    Expired,
}

impl Certificate {
    const ALL: [Self; 3] = [Self::Localhost, Self::WrongHost, Self::Expired];

    fn stem(self) -> &'static str {
        match self {
            Self::Localhost => "localhost",
            Self::WrongHost => "wrong-host",
            Self::Expired => "expired",
        }
    }
}

/// A private certificate authority, the server certificates it signed, and a second authority that signed none.
#[derive(Debug, Clone)]
pub struct TestCa {
    ca: PathBuf,
    other_ca: PathBuf,
    directory: PathBuf,
}

impl TestCa {
    /// Makes both authorities and the three server certificates in an existing directory.
    ///
    /// The private keys can be read by the owner alone: the user `postgres` when we are root.
    pub fn create(directory: &Path) -> Result<Self, String> {
        Self::create_as(Account::find()?, directory)
    }

    pub(crate) fn create_as(account: Account, directory: &Path) -> Result<Self, String> {
        let ca = Self::at(directory);
        ca.write(account).map_err(|e| format!("cannot make the test certificates: {e}"))?;
        Ok(ca)
    }

    /// What [`TestCa::create`] has made there before.
    pub(crate) fn at(directory: &Path) -> Self {
        Self { ca: directory.join("ca.crt"), other_ca: directory.join("other-ca.crt"), directory: directory.to_owned() }
    }

    /// The certificate of the authority that signed the servers' certificates, PEM.
    pub fn ca_file(&self) -> &Path {
        &self.ca
    }

    /// The certificate of an unrelated authority, PEM: a client that trusts this one alone must refuse every server.
    pub fn other_ca_file(&self) -> &Path {
        &self.other_ca
    }

    /// The file of a server certificate, PEM.
    pub fn certificate_file(&self, certificate: Certificate) -> PathBuf {
        self.directory.join(format!("{}.crt", certificate.stem()))
    }

    /// The file of a server certificate's private key, PEM, mode 0600.
    pub fn key_file(&self, certificate: Certificate) -> PathBuf {
        self.directory.join(format!("{}.key", certificate.stem()))
    }

    fn write(&self, account: Account) -> Result<(), String> {
        let issuer = authority(account, "pg-test-server CA", &self.ca)?;
        authority(account, "another CA", &self.other_ca)?;
        for certificate in Certificate::ALL {
            let name = if certificate == Certificate::WrongHost { "wrong.example" } else { "localhost" };
            let mut params = CertificateParams::new([name.to_owned()]).map_err(text)?;
            params.distinguished_name.push(DnType::CommonName, name);
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            if certificate == Certificate::Expired {
                params.not_before = rcgen::date_time_ymd(2001, 1, 1);
                params.not_after = rcgen::date_time_ymd(2002, 1, 1);
            }
            let key = KeyPair::generate().map_err(text)?;
            let signed = params.signed_by(&key, &issuer).map_err(text)?;
            account.write(&self.certificate_file(certificate), &signed.pem())?;
            account.write(&self.key_file(certificate), &key.serialize_pem())?;
        }
        Ok(())
    }
}

fn authority(account: Account, name: &str, file: &Path) -> Result<Issuer<'static, KeyPair>, String> {
    let mut params = CertificateParams::new(Vec::new()).map_err(text)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().map_err(text)?;
    account.write(file, &params.self_signed(&key).map_err(text)?.pem())?;
    Ok(Issuer::new(params, key))
}

#[expect(clippy::needless_pass_by_value, reason = "the shape map_err wants")]
fn text(error: rcgen::Error) -> String {
    error.to_string()
}
