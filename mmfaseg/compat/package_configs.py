"""Resolution of config names such as ``mmfaseg::faseg/CONFIG.py``.

mmengine resolves ``package::path`` in ``_base_`` and in ``mmengine.hub`` only
for known packages, and sets the default scope to the package name. Configs of
mmfaseg have the default scope ``mmseg`` or ``mmdet``.
"""

from ..utils.package_folder import find_package_folder

PREFIX = 'mmfaseg::'


def register_package_configs() -> None:
    """Registers ``mmfaseg::`` in mmengine; repeated calls have no effect."""
    from mmengine.config.utils import MODULE2PACKAGE

    if 'mmfaseg' in MODULE2PACKAGE:
        return
    # mmengine searches for a distribution, then for a module. Only the latter
    # has the correct path in editable installs and checkouts.
    MODULE2PACKAGE['mmfaseg'] = 'mmfaseg.version'
    _resolve_bases()
    _build_models_in_their_scope()


def _resolve_bases() -> None:
    """Resolves ``mmfaseg::`` in ``_base_`` without setting a scope.

    mmengine would set ``_scope_ = 'mmfaseg'``, which does not contain the
    classes of mmseg and mmdet.
    """
    from mmengine.config import Config

    get_cfg_path = Config._get_cfg_path

    def get_package_cfg_path(
        cfg_path: str, filename: str
    ) -> tuple[str, str | None]:
        if cfg_path.startswith(PREFIX):
            name = cfg_path.removeprefix(PREFIX)
            return str(find_package_folder('configs') / name), None
        return get_cfg_path(cfg_path, filename)

    Config._get_cfg_path = staticmethod(get_package_cfg_path)


def _build_models_in_their_scope() -> None:
    """Makes ``mmengine.hub.get_model`` use the ``default_scope``."""
    from mmengine.config import Config
    from mmengine.hub import hub

    get_config = hub.get_config

    def get_scoped_config(cfg_path: str, pretrained: bool = False) -> Config:
        cfg = get_config(cfg_path, pretrained)
        if cfg_path.startswith(PREFIX):
            cfg.model._scope_ = cfg.get('default_scope', 'mmseg')
            # otherwise None would replace the model's data_preprocessor
            if cfg.get('data_preprocessor') is None:
                cfg.pop('data_preprocessor', None)
        return cfg

    # get_model uses this; mmengine.hub.get_config is not patched
    hub.get_config = get_scoped_config
