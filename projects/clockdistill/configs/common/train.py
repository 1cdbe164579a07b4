"""Every key of `cfg.train` with its default; an experiment changes what differs."""

train = dict(
    # folder of weights, logs, the full config and results
    output_dir="output",
    # weights to start from (or to evaluate): a path, a URL, torchvision://resnet18|50|101 for the
    # backbone alone; "" starts from scratch
    init_checkpoint="",
    max_iter=90_000,
    # below 0: every run differs
    seed=0,
    device="cuda",
    # saves memory: a process's part of a batch passes through the model in so many chunks of equal
    # size, and the weights change once, as without chunks (docs/training.md)
    accumulate_steps=1,
    # float16 needs CUDA; bfloat16 works on CPUs too
    amp=dict(enabled=False, dtype="bfloat16"),
    # torch.compile on encoder and decoder layers (docs/training.md); needs a compiler
    compile=False,
    # norm of all gradients together
    # (0, as in the original repositories, disables clipping)
    clip_grad=dict(enabled=True, params=dict(max_norm=0.1, norm_type=2.0)),
    # of several processes. static_graph is left out: torch cannot accumulate gradients with it
    ddp=dict(find_unused_parameters=False, gradient_as_bucket_view=True, fp16_compression=False),
    # in steps; the newest max_to_keep are kept, besides model_final and model_best
    checkpointer=dict(period=1_000, max_to_keep=2),
    # in steps; 0 evaluates at the end only
    eval_period=1_000,
    log_period=20,
    # besides TensorBoard and metrics.json: "wandb", "mlflow" (docs/training.md)
    loggers=[],
    model_ema=dict(enabled=False, decay=0.9997, use_ema_weights_for_eval_only=True),
    # model_best.pth holds the weights with the highest value of this metric
    best_metric="bbox/AP",
    # the run ends after so many evaluations in a row without a new best; 0 trains up to max_iter
    early_stopping=0,
    # images on which a teacher must beat chance before the first step; 0 disables the check
    teacher_check_images=8,
)
