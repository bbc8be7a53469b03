//! Generation jobs.

use std::sync::Arc;

use async_trait::async_trait;
use storage_core::kernel::{Atom, Reply, job_id};
use storage_core::{
    AddGenerationJob, Job, JobId, JobStatus, Jobs, ListJobs, Newest, Page, Result, Stamp, Stored, TaskId,
    UpdateJobStatus,
};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::codec::{Micros, Moment};
use crate::express::key_is_unused;
use crate::fields::Fields;
use crate::gather::Gatherer;
use crate::history::behind;
use crate::statement::{Statement, statements};
use crate::store::PgStorage;
use crate::tx::{Express, Param, Tx, param, uuid};
use crate::users::surplus;
use crate::wire::Value;

macro_rules! job_columns {
    () => {
        "user_id, job_id, model_id, model_name, params, price, status, external_task_id, result_urls, error_message, \
         created_at, updated_at, created_with"
    };
}
macro_rules! job_columns_read {
    () => {
        "user_id, job_id, model_id, model_name, params::text AS params, price, status, external_task_id, result_urls, \
         error_message, created_at, updated_at, created_with"
    };
}
pub(crate) use job_columns_read;

/// How many they are.
pub(crate) const JOB_COLUMNS: usize = 13;

macro_rules! job_list {
    ($filter:literal) => {
        concat!(
            "SELECT ",
            job_columns_read!(),
            " FROM {s}.generation_jobs WHERE ",
            $filter,
            " AND (created_at, job_id) < ($1, $2) ORDER BY created_at DESC, job_id DESC LIMIT $3"
        )
    };
}

macro_rules! job_by {
    ($kind:literal, $column:literal) => {
        concat!(
            "SELECT ",
            job_columns_read!(),
            " FROM {s}.generation_jobs
             WHERE user_id = (SELECT user_id FROM {s}.id_routes WHERE kind = '",
            $kind,
            "' AND id = $1)
                 AND ",
            $column,
            " = $1"
        )
    };
}

statements! {
    /// Statements of jobs.
    JobStatements {
        find(TEXT) = job_by!("job", "job_id");
        find_locked(TEXT) = concat!(job_by!("job", "job_id"), " FOR NO KEY UPDATE");
        find_locked_now(TEXT) = concat!(job_by!("job", "job_id"), " FOR NO KEY UPDATE SKIP LOCKED");
        find_by_task(TEXT) = job_by!("task", "external_task_id");
        list_of_user(TIMESTAMPTZ, TEXT, INT8, INT8, TEXT_ARRAY) =
            job_list!("user_id = $4 AND (cardinality($5::text[]) = 0 OR status = ANY($5))");
        list_all(TIMESTAMPTZ, TEXT, INT8) = job_list!("true");
        /// One descent into the index for each state, so that a rare state is found without reading all jobs.
        list_by_status(TIMESTAMPTZ, TEXT, INT8, TEXT_ARRAY) = concat!(
            "SELECT j.* FROM unnest($4::text[]) AS wanted (status) CROSS JOIN LATERAL (
                 SELECT ", job_columns_read!(), " FROM {s}.generation_jobs AS t
                 WHERE t.status = wanted.status AND (t.created_at, t.job_id) < ($1, $2)
                 ORDER BY t.created_at DESC, t.job_id DESC LIMIT $3
             ) AS j ORDER BY j.created_at DESC, j.job_id COLLATE \"C\" DESC LIMIT $3"
        );
        create(INT8, TEXT, TEXT, TEXT, TEXT, NUMERIC, TEXT, TEXT, TEXT_ARRAY, TEXT, TIMESTAMPTZ, TIMESTAMPTZ, UUID,
            UUID) = concat!(
            "INSERT INTO {s}.generation_jobs (", job_columns!(), ", last_operation)
             VALUES ($1, $2, $3, $4, $5::text::json, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
        );
        change(INT8, TEXT, TEXT, TEXT, TEXT_ARRAY, TEXT, TIMESTAMPTZ, UUID) =
            "UPDATE {s}.generation_jobs SET status = $3, external_task_id = $4, result_urls = $5, error_message = $6,
                 updated_at = $7, last_operation = $8
             WHERE user_id = $1 AND job_id = $2";
        add(INT8, TEXT, TEXT, TEXT, TEXT, NUMERIC, TEXT, TIMESTAMPTZ, UUID, UUID, TEXT, UUID) = concat!(
            "WITH fresh AS (
                 SELECT WHERE ", key_is_unused!("$1", "$11"), "
                     AND NOT EXISTS (SELECT FROM {s}.id_routes r WHERE r.kind = 'job' AND r.id = $2)
                     AND NOT EXISTS (SELECT FROM {s}.id_routes r WHERE r.kind = 'task' AND r.id = $7)
             ), owner AS (
                 INSERT INTO {s}.users (id, created_at, updated_at, last_operation)
                 SELECT $1, $8, $8, $10 FROM fresh ON CONFLICT (id) DO NOTHING
             ), route AS (
                 INSERT INTO {s}.id_routes (kind, id, user_id)
                 SELECT 'job', $2, $1 FROM fresh UNION ALL SELECT 'task', $7, $1 FROM fresh WHERE $7::text IS NOT NULL
             ), job AS (
                 INSERT INTO {s}.generation_jobs (user_id, job_id, model_id, model_name, params, price, status,
                     external_task_id, created_at, updated_at, created_with, last_operation)
                 SELECT $1, $2, $3, $4, $5::text::json, $6, 'pending', $7, $8, $8, $9, $10 FROM fresh
             ), key AS (
                 INSERT INTO {s}.operation_keys (user_id, space, key, arguments, operation_id, answer)
                 SELECT $1, 'operation', $11, $12, $10, 'record' FROM fresh
             )
             SELECT TRUE AS added FROM fresh"
        );
        /// A step that is allowed from the states in `$8`, without a new external task id. Whoever would have to wait for the job's row, or
        /// for the user's, which the key's row needs, does so in turn and is judged.
        update(TEXT, TEXT, TEXT_ARRAY, TEXT, TIMESTAMPTZ, UUID, TEXT, TEXT_ARRAY, UUID) = concat!(
            "WITH step AS (
                 SELECT t.user_id, t.job_id FROM {s}.generation_jobs t
                 WHERE t.user_id = (
                         SELECT u.id FROM {s}.users u
                         WHERE u.id = (SELECT user_id FROM {s}.id_routes WHERE kind = 'job' AND id = $1)
                         FOR KEY SHARE SKIP LOCKED)
                     AND t.job_id = $1 AND t.status || '' = ANY($8)
                 FOR NO KEY UPDATE SKIP LOCKED
             ), changed AS (
                 UPDATE {s}.generation_jobs AS j SET status = $2, result_urls = coalesce($3, j.result_urls),
                     error_message = CASE WHEN $2 = 'completed' THEN NULL ELSE coalesce($4, j.error_message) END,
                     updated_at = $5, last_operation = $6
                 FROM step
                 WHERE j.user_id = step.user_id AND j.job_id = step.job_id AND NOT EXISTS (
                         SELECT FROM {s}.operation_keys k WHERE k.user_id = j.user_id AND k.space = 'operation'
                             AND k.key = $7)
                 RETURNING j.*
             ), key AS (
                 INSERT INTO {s}.operation_keys (user_id, space, key, arguments, operation_id, answer)
                 SELECT c.user_id, 'operation', $7, $9, $6, 'record' FROM changed c
             )
             SELECT ", job_columns_read!(), " FROM changed"
        );
    }
}

/// Reads the columns of `job_columns_read!`.
pub(crate) fn job(row: &Row) -> Result<Job> {
    let mut fields = Fields::of(row, "generation_jobs");
    Ok(Job {
        user: fields.user()?,
        id: fields.text()?,
        model_id: fields.text()?,
        model_name: fields.text()?,
        params: fields.params()?,
        price: fields.money()?,
        status: fields.text()?,
        external_task_id: fields.opt_text()?,
        result_urls: fields.urls()?,
        error_message: fields.opt_text()?,
        created_at: fields.at()?,
        updated_at: fields.at()?,
        created_with: fields.fingerprint()?,
    })
}

/// The parameters of `create`.
pub(crate) fn values(job: &Job, last_operation: Option<Uuid>) -> Vec<Param> {
    vec![
        param(job.user.get()),
        param(job.id.as_str().to_owned()),
        param(job.model_id.as_str().to_owned()),
        param(job.model_name.as_str().to_owned()),
        param(job.params.as_json().to_owned()),
        param(Micros::from(job.price)),
        param(job.status.as_str()),
        param(job.external_task_id.as_ref().map(|task| task.as_str().to_owned())),
        param(job.result_urls.as_slice().to_vec()),
        param(job.error_message.as_ref().map(|message| message.as_str().to_owned())),
        param(Moment::At(job.created_at)),
        param(Moment::At(job.updated_at)),
        param(Uuid::from_bytes(job.created_with.to_bytes())),
        param(last_operation),
    ]
}

/// Writes a job down, and claims the ids of a new one, or its new external id.
pub(crate) fn put(tx: &mut Tx<'_>, stamp: Stamp, job: &Job, before: Option<&Job>) {
    let (sql, user, operation) = (tx.sql(), job.user.get(), uuid(stamp.operation));
    let route = |kind: &'static str, id: &str| vec![param(kind), param(id.to_owned()), param(user)];
    let task = |job: &Job| job.external_task_id.as_ref().map(|task| route("task", task.as_str()));
    let Some(before) = before else {
        tx.queue_child(&sql.account.claim, route("job", job.id.as_str()));
        if let Some(task) = task(job) {
            tx.queue_child(&sql.account.claim, task);
        }
        return tx.queue_child(&sql.jobs.create, values(job, Some(operation)));
    };
    if job.external_task_id != before.external_task_id {
        if let Some(old) = task(before) {
            tx.queue_child(&sql.account.unclaim, old);
        }
        if let Some(new) = task(job) {
            tx.queue_child(&sql.account.claim, new);
        }
    }
    let values = vec![
        param(user),
        param(job.id.as_str().to_owned()),
        param(job.status.as_str()),
        param(job.external_task_id.as_ref().map(|task| task.as_str().to_owned())),
        param(job.result_urls.as_slice().to_vec()),
        param(job.error_message.as_ref().map(|message| message.as_str().to_owned())),
        param(Moment::At(job.updated_at)),
        param(operation),
    ];
    tx.queue_child(&sql.jobs.change, values);
}

impl PgStorage {
    async fn page_of_jobs(&self, list: ListJobs) -> Result<Page<Job>> {
        let filter = list.filter();
        let ListJobs { user, mut statuses, page } = list;
        statuses.sort_unstable();
        statuses.dedup();
        let words: Vec<&str> = statuses.iter().map(|status| status.as_str()).collect();
        let (at, id) = behind(page.position::<Newest<JobId>>(filter)?);
        let is_newest = page.after.is_none() && words.is_empty();
        let (limit, sql) = (surplus(page.size), &self.sql().jobs);
        let rows = match user {
            Some(user) => {
                let number = user.get();
                let gathered = async |gatherer: &Gatherer, pool: &_| {
                    if is_newest { gatherer.jobs(pool, user, limit).await } else { None }
                };
                let values: [Value<'_>; 5] = [&at, &id, &limit, &number, &words];
                self.read_gathered("list_jobs", gathered, &sql.list_of_user, &values).await?
            }
            None if words.is_empty() => self.read("list_jobs", &sql.list_all, &[&at, &id, &limit]).await?,
            None => self.read("list_jobs", &sql.list_by_status, &[&at, &id, &limit, &words]).await?,
        };
        let jobs = rows.iter().map(|row| Ok(Arc::new(job(row)?))).collect::<Result<_>>()?;
        Ok(Page::from_surplus(jobs, page.size, filter, |job| Newest::new(job.created_at, job.id.clone())))
    }

    async fn one_job(
        &self,
        operation: &'static str,
        (statement, dangling): (&Statement, &Statement),
        (kind, id): (&str, &str),
    ) -> Result<Option<Arc<Job>>> {
        let rows = self.read(operation, statement, &[&id]).await?;
        let found = rows.first().map(job).transpose().map_err(|error| error.in_operation(operation))?;
        if found.is_none() {
            self.leads_nowhere(operation, dangling, (kind, id)).await?;
        }
        Ok(found.map(Arc::new))
    }
}

impl PgStorage {
    /// The express form of a new job.
    pub(crate) fn express_job(&self, atom: &Atom, add: &AddGenerationJob) -> Express<'_, Reply> {
        let stamp = atom.stamp();
        let added = Job::create(add.clone(), job_id(add, stamp.operation), stamp.now);
        let values = vec![
            param(added.user.get()),
            param(added.id.as_str().to_owned()),
            param(added.model_id.as_str().to_owned()),
            param(added.model_name.as_str().to_owned()),
            param(added.params.as_json().to_owned()),
            param(Micros::from(added.price)),
            param(added.external_task_id.as_ref().map(|task| task.as_str().to_owned())),
            param(Moment::At(stamp.now)),
            param(Uuid::from_bytes(added.created_with.to_bytes())),
            param(uuid(stamp.operation)),
            param(atom.key().as_str().to_owned()),
            param(Uuid::from_bytes(atom.arguments().to_bytes())),
        ];
        let record = Arc::new(added);
        let answer = Box::new(move |_: &Row| Ok(Stored { record: Arc::clone(&record), replayed: false }.into()));
        Express::new(&self.sql().jobs.add, values, answer)
    }

    /// The express form of a step. Another external id moves a route, which is judged.
    pub(crate) fn express_step(&self, atom: &Atom, update: &UpdateJobStatus) -> Option<Express<'_, Reply>> {
        let UpdateJobStatus { job: id, status, result_urls, error_message, external_task_id, key: _ } = update;
        if external_task_id.is_some() {
            return None;
        }
        let stamp = atom.stamp();
        let from = JobStatus::ALL.into_iter().filter(|from| from.may_become(*status));
        let from: Vec<&'static str> = from.map(JobStatus::as_str).collect();
        let values = vec![
            param(id.as_str().to_owned()),
            param(status.as_str()),
            param(result_urls.as_ref().map(|urls| urls.as_slice().to_vec())),
            param(error_message.as_ref().map(|message| message.as_str().to_owned())),
            param(Moment::At(stamp.now)),
            param(uuid(stamp.operation)),
            param(atom.key().as_str().to_owned()),
            param(from),
            param(Uuid::from_bytes(atom.arguments().to_bytes())),
        ];
        let answer = Box::new(|row: &Row| Ok(Stored { record: Arc::new(job(row)?), replayed: false }.into()));
        Some(Express::new(&self.sql().jobs.update, values, answer))
    }
}

#[async_trait]
impl Jobs for PgStorage {
    async fn add_generation_job(&self, add: AddGenerationJob) -> Result<Stored<Job>> {
        self.apply(add).await
    }

    async fn update_job_status(&self, update: UpdateJobStatus) -> Result<Stored<Job>> {
        self.apply(update).await
    }

    async fn get_job(&self, job: &JobId) -> Result<Option<Arc<Job>>> {
        let sql = self.sql();
        self.one_job("get_job", (&sql.jobs.find, &sql.dangling.job), ("job", job.as_str())).await
    }

    async fn find_job_by_task_id(&self, task: &TaskId) -> Result<Option<Arc<Job>>> {
        let sql = self.sql();
        let statements = (&sql.jobs.find_by_task, &sql.dangling.task);
        self.one_job("find_job_by_task_id", statements, ("task", task.as_str())).await
    }

    async fn list_jobs(&self, list: ListJobs) -> Result<Page<Job>> {
        self.opened("list_jobs")?;
        self.page_of_jobs(list).await.map_err(|error| error.in_operation("list_jobs"))
    }
}
