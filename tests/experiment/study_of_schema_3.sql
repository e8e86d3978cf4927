BEGIN TRANSACTION;
CREATE TABLE attempts (
    id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, started REAL NOT NULL,
    status TEXT NOT NULL DEFAULT 'started');
INSERT INTO "attempts" VALUES(1,'c484694543e9624fea21e3ea5df860ed19890db42ce38dcecba3359f82b83fff',1.79613382982802224159e+09,'done');
INSERT INTO "attempts" VALUES(2,'3e4b5759956047a37843d68e5b52f3999b7e321fad08f1726e17706c00a2570a',1.79613383357529211043e+09,'done');
CREATE TABLE failures (
    key TEXT PRIMARY KEY, label TEXT NOT NULL, error TEXT NOT NULL, traceback TEXT NOT NULL
    ) WITHOUT ROWID;
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "meta" VALUES('command','"qkd run tiny.yaml --out out"');
INSERT INTO "meta" VALUES('config','{"schema": 1, "name": "tiny", "title": "", "data": {"kind": "extended_xor", "options": {"train": 12, "transfer": 0, "test": 20}}, "teachers": {}, "students": {"linear": {"kind": "linear", "options": {}, "training": {"epochs": null, "batch_size": null, "steps_per_epoch": null, "steps": null, "learning_rate": null, "optimizer": null, "patience": null, "dtype": null, "gradient_every": null, "checkpoint_epochs": null}, "variants": null, "candidates": {}}}, "variants": {"plain": {"terms": [{"loss": "ce", "weight": 1.0, "name": null, "options": {}, "teacher": null, "placebo": null, "layers": null, "adapter": null}], "teacher": "none", "placebo": "none", "temperature": null, "sees": "same", "training": {"epochs": null, "batch_size": null, "steps_per_epoch": null, "steps": null, "learning_rate": null, "optimizer": null, "patience": null, "dtype": null, "gradient_every": null, "checkpoint_epochs": null}, "backend": null, "fine_tune": null}}, "baseline": "plain", "headline": "linear", "seeds": [0, 1], "training": {"epochs": 1, "batch_size": 8, "steps_per_epoch": null, "steps": "equal", "learning_rate": 0.05, "optimizer": "adam", "patience": null, "dtype": "float64", "gradient_every": 5, "checkpoint_epochs": null}, "metric": "accuracy", "selection": "over_seeds", "backend": "exact", "backends": {}, "axes": {}, "evaluation": {"robustness": {}, "feature_maps": null, "backend": null, "shots": [], "side_by_side": null, "teacher": null}}');
INSERT INTO "meta" VALUES('environments','[{"python": "3.11.7", "qiskit-kd": "0.1.0", "qiskit": "2.6.2", "qiskit-aer": "0.18.2", "qiskit-machine-learning": "0.9.1", "torch": "2.14.1", "numpy": "2.4.6", "scipy": "1.17.1", "system": "Linux x86_64, 2 cores"}]');
INSERT INTO "meta" VALUES('estimate','null');
INSERT INTO "meta" VALUES('kind','qiskit_kd study');
INSERT INTO "meta" VALUES('plan','[{"key": "c484694543e9624fea21e3ea5df860ed19890db42ce38dcecba3359f82b83fff", "role": "student", "student": "linear", "variant": "plain", "seed": 0, "candidate": {}, "label": "linear, plain, seed 0", "points": [0]}, {"key": "3e4b5759956047a37843d68e5b52f3999b7e321fad08f1726e17706c00a2570a", "role": "student", "student": "linear", "variant": "plain", "seed": 1, "candidate": {}, "label": "linear, plain, seed 1", "points": [0]}]');
INSERT INTO "meta" VALUES('schema','3');
INSERT INTO "meta" VALUES('sha256','09cfe92da42f7a4ee028fbaf3a500e945171bc2a335373cc06f097c4036003d3');
CREATE TABLE rows (
    key TEXT PRIMARY KEY, role TEXT NOT NULL, body TEXT NOT NULL, sha256 TEXT NOT NULL
    ) WITHOUT ROWID;
INSERT INTO "rows" VALUES('3e4b5759956047a37843d68e5b52f3999b7e321fad08f1726e17706c00a2570a','student','{"best_epoch":1,"correct":{"of":20,"right":"671450","source":"5a347f98eaa0a20e","tested":"fffff0","trained":0.0},"curves":{"epoch":[1.0],"grad/ce":[1.111172738229312],"train/ce":[1.130896716336333],"validation/accuracy":[0.31],"validation/loss":[1.1461459928640008]},"distribution":[[0.3468304849031791,0.26753715133174516,0.38563236376507576],[0.34830992670222355,0.3392882670190536,0.31240180627872277],[0.29358394685374706,0.30111307758715083,0.40530297555910205]],"experiment":"tiny","extra":{},"key":"3e4b5759956047a37843d68e5b52f3999b7e321fad08f1726e17706c00a2570a","options":{"kind":"linear","temperature":null},"parameters":195,"seed":1,"steps_per_epoch":2,"student":"linear","test":{"accuracy":0.45,"ece":0.20023070963759962,"macro_f1":0.43846153846153846,"nll":1.0671790910422803},"validation":{"accuracy":0.31,"macro_f1":0.309850863422292,"nll":1.1461459928640008},"variant":"plain"}','62d19aad3a515add5863bbbfc79768fc184e62fd25f420ef92102468552e2027');
INSERT INTO "rows" VALUES('c484694543e9624fea21e3ea5df860ed19890db42ce38dcecba3359f82b83fff','student','{"best_epoch":1,"correct":{"of":20,"right":"8308e0","source":"ec6a50cd41c2197e","tested":"fffff0","trained":0.0},"curves":{"epoch":[1.0],"grad/ce":[1.255291307632601],"train/ce":[1.2357037981217556],"validation/accuracy":[0.31333333333333335],"validation/loss":[1.191438835340693]},"distribution":[[0.3640529036973958,0.3455809930497095,0.2903661032528947],[0.32313779827486716,0.3431780371906839,0.33368416453444893],[0.2828413288415694,0.4472543901876371,0.2699042809707936]],"experiment":"tiny","extra":{},"key":"c484694543e9624fea21e3ea5df860ed19890db42ce38dcecba3359f82b83fff","options":{"kind":"linear","temperature":null},"parameters":195,"seed":0,"steps_per_epoch":2,"student":"linear","test":{"accuracy":0.35,"ece":0.2529905861683358,"macro_f1":0.3612596553773024,"nll":1.1692933470493074},"validation":{"accuracy":0.31333333333333335,"macro_f1":0.3084538704099278,"nll":1.1914388353406935},"variant":"plain"}','0e14dbfb4c5a16c52f42b206218974ce7ed8e853048c2a5449fd0e09b8d38d3f');
CREATE TABLE timings (
    key TEXT PRIMARY KEY, seconds REAL NOT NULL, host TEXT NOT NULL, pid INTEGER NOT NULL,
    finished REAL NOT NULL) WITHOUT ROWID;
INSERT INTO "timings" VALUES('3e4b5759956047a37843d68e5b52f3999b7e321fad08f1726e17706c00a2570a',3.66821170000548590905e-02,'vm',28284,1.79613383361248660089e+09);
INSERT INTO "timings" VALUES('c484694543e9624fea21e3ea5df860ed19890db42ce38dcecba3359f82b83fff',3.74705794900000910274e+00,'vm',28284,1.79613383361267924314e+09);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('attempts',2);
COMMIT;
